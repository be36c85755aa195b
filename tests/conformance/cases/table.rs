//! The table of cases and clients: for people on a terminal, as Markdown, and as JSON.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use super::{
    case::Case,
    drivers::{CLIENTS, Client},
    expect::Compared,
};

/// What is known of a case with a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Cell {
    /// As far as it was told.
    Right(Told),
    /// What differed.
    Wrong(Vec<String>),
    /// The client has no words for it, and why.
    NotExpressible(String),
    #[default]
    NotRun,
}

/// How many facts were told, of how many that were expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    facts: usize,
    of: usize,
}

/// The cells of one client, by case, and how long all of its cases took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    pub(crate) cells: BTreeMap<String, Cell>,
    pub(crate) seconds: f64,
}

pub(crate) struct Table<'a> {
    pub(crate) cases: &'a [Case],
    pub(crate) columns: &'a BTreeMap<&'static str, Column>,
}

impl Table<'_> {
    fn cell(&self, case: &str, client: &Client) -> Cell {
        self.columns.get(client.name).and_then(|column| column.cells.get(case)).cloned().unwrap_or_default()
    }

    fn rows(&self) -> impl Iterator<Item = (&str, [Cell; CLIENTS.len()])> {
        self.cases
            .iter()
            .map(|case| (case.name.as_str(), CLIENTS.each_ref().map(|client| self.cell(&case.name, client))))
    }

    fn took(&self) -> [String; CLIENTS.len()] {
        let took = |client: &Client| Some(format!("{:.1}", self.columns.get(client.name)?.seconds));
        CLIENTS.each_ref().map(|client| took(client).unwrap_or_else(|| "·".to_owned()))
    }

    /// A row for each way in which cells are counted.
    fn totals(&self) -> [(&'static str, [String; CLIENTS.len()]); 4] {
        let count = |is: fn(&Cell) -> bool| {
            CLIENTS.each_ref().map(|client| {
                let cells = self.cases.iter().map(|case| self.cell(&case.name, client));
                cells.filter(is).count().to_string()
            })
        };
        [
            ("right", count(|cell| matches!(cell, Cell::Right(told) if told.is_all()))),
            ("right, told in part", count(|cell| matches!(cell, Cell::Right(told) if !told.is_all()))),
            ("wrong", count(|cell| matches!(cell, Cell::Wrong(_)))),
            ("no words for it", count(|cell| matches!(cell, Cell::NotExpressible(_)))),
        ]
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let first = self.cases.iter().map(|case| case.name.len()).max().unwrap_or_default().max(20);
        let line = |name: &str, marks: [String; CLIENTS.len()]| {
            format!("{name:first$}{}\n", marks.map(|mark| format!("{mark:>8}")).concat())
        };
        let mut text = line("", CLIENTS.each_ref().map(|client| client.name.to_owned()));
        let mut differences = Vec::new();
        for (case, cells) in self.rows() {
            for (client, cell) in CLIENTS.iter().zip(&cells) {
                if let Cell::Wrong(wrong) = cell {
                    differences.push(format!("  {case}, {}: {}\n", client.name, wrong.join("; ")));
                }
            }
            text += &line(case, cells.map(|cell| cell.mark()));
        }
        for (name, counts) in self.totals() {
            text += &line(name, counts);
        }
        text += &line("set-up, s", setup());
        text += &line("all cases, s", self.took());
        format!("\n{text}\n{}\n{}", LEGEND.join("  "), differences.concat())
    }

    fn markdown(&self) -> String {
        let line = |name: &str, cells: [String; CLIENTS.len()]| format!("| {name} | {} |\n", cells.join(" | "));
        let mut text = line("case", CLIENTS.each_ref().map(|client| client.name.to_owned()));
        text += &line("---", CLIENTS.each_ref().map(|_| "---".to_owned()));
        let mut reasons = BTreeMap::<String, Vec<String>>::new();
        for (case, cells) in self.rows() {
            for (client, cell) in CLIENTS.iter().zip(&cells) {
                if let Cell::NotExpressible(why) = cell {
                    reasons.entry(format!("{}: {why}", client.name)).or_default().push(case.to_owned());
                }
            }
            text += &line(case, cells.map(|cell| cell.mark()));
        }
        for (name, counts) in self.totals() {
            text += &line(&format!("**{name}**"), counts);
        }
        text += &line("**set-up, s**", setup());
        text += &line("**all cases, s**", self.took());
        let reasons: Vec<_> = reasons.iter().map(|(why, cases)| format!("- {why} ({})\n", cases.join(", "))).collect();
        let legend = LEGEND.join(", ");
        format!("{text}\n{legend}\n\nNo words for it:\n\n{}", reasons.concat())
    }

    fn json(&self) -> Value {
        let cell = |cell: &Cell| match cell {
            Cell::Right(told) => json!({"is": "right", "told": told.facts, "expected": told.of}),
            Cell::Wrong(wrong) => json!({"is": "wrong", "what": wrong}),
            Cell::NotExpressible(why) => json!({"is": "not expressible", "why": why}),
            Cell::NotRun => json!({"is": "not run"}),
        };
        let rows = self.rows().map(|(case, cells)| {
            let cells: serde_json::Map<_, _> =
                CLIENTS.iter().zip(&cells).map(|(client, it)| (client.name.to_owned(), cell(it))).collect();
            json!({"case": case, "clients": cells})
        });
        let seconds: serde_json::Map<_, _> = CLIENTS
            .iter()
            .map(|client| {
                let took = self.columns.get(client.name).map(|column| column.seconds);
                (client.name.to_owned(), json!({"setup": client.setup_seconds(), "cases": took}))
            })
            .collect();
        json!({"cases": rows.collect::<Vec<_>>(), "seconds": seconds})
    }

    /// Writes `cases.json` and `cases.md` into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> std::io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("cases.json"), format!("{:#}\n", self.json()))?;
        fs::write(dir.join("cases.md"), self.markdown())
    }
}

/// How long each client's set-up took.
fn setup() -> [String; CLIENTS.len()] {
    CLIENTS.each_ref().map(|client| match client.setup_seconds() {
        Some(seconds) => format!("{seconds:.1}"),
        None if client.has_setup() => "?".to_owned(),
        None => "–".to_owned(),
    })
}

const LEGEND: [&str; 5] =
    ["✓ right", "✓ 2/5 right, and 2 of 5 expected facts were told", "✗ wrong", "– no words for it", "· not run"];

impl Cell {
    fn mark(&self) -> String {
        match self {
            Cell::Right(told) if told.is_all() => "✓".to_owned(),
            Cell::Right(Told { facts, of }) => format!("✓ {facts}/{of}"),
            Cell::Wrong(_) => "✗".to_owned(),
            Cell::NotExpressible(_) => "–".to_owned(),
            Cell::NotRun => "·".to_owned(),
        }
    }
}

impl From<Compared> for Cell {
    fn from(Compared { expected, told, wrong }: Compared) -> Self {
        if wrong.is_empty() { Cell::Right(Told { facts: told, of: expected }) } else { Cell::Wrong(wrong) }
    }
}

impl Told {
    fn is_all(self) -> bool {
        self.facts == self.of
    }
}

/// Shows that what a client did not say does not count as what it said.
pub(crate) mod checks {
    use serde_json::json;

    use super::{BTreeMap, Case, Cell, Column, Compared, Table};

    pub(crate) fn what_is_told_in_part_is_told_apart() {
        let case: Case = serde_json::from_value(json!({"name": "n", "expect": {"token": true}})).expect("it is a case");
        let came =
            |told, wrong: &[&str]| Compared { expected: 5, told, wrong: wrong.iter().map(|&it| it.into()).collect() };
        let marks = |cell: Cell| {
            let mark = cell.mark();
            let column = Column { cells: [("n".to_owned(), cell)].into(), seconds: 0.0 };
            let columns = BTreeMap::from([("triton", column)]);
            let cases = [case.clone()];
            let table = Table { cases: &cases, columns: &columns };
            let triton = super::CLIENTS.iter().position(|client| client.name == "triton").expect("it is a client");
            assert!(table.text().contains(&mark) && table.markdown().contains(&mark));
            (mark, table.totals().map(|(_, counts)| counts[triton].clone()).join(" "))
        };
        let expected = |mark: &str, totals: &str| (mark.to_owned(), totals.to_owned());
        assert_eq!(marks(came(5, &[]).into()), expected("✓", "1 0 0 0"));
        assert_eq!(marks(came(2, &[]).into()), expected("✓ 2/5", "0 1 0 0"));
        assert_eq!(marks(came(5, &["text"]).into()), expected("✗", "0 0 1 0"));
        assert_eq!(marks(Cell::NotExpressible("why".into())), expected("–", "0 0 0 1"));
    }
}
