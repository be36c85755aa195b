//! The table of cases and clients: for people on a terminal, as Markdown, and as JSON.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use super::{
    case::Case,
    drivers::{CLIENTS, Client},
};

/// What is known of a case with a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Cell {
    Right,
    /// What differed.
    Wrong(Vec<String>),
    /// The client has no words for it, and why.
    NotExpressible(String),
    #[default]
    NotRun,
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

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let first = self.cases.iter().map(|case| case.name.len()).max().unwrap_or_default().max(16);
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
            text += &line(case, cells.map(|cell| cell.mark().to_owned()));
        }
        text += &line("set-up, s", setup());
        text += &line("all cases, s", self.took());
        format!("\n{text}\n✓ right  ✗ wrong  – no words for it  · not run\n{}", differences.concat())
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
            text += &line(case, cells.map(|cell| cell.mark().to_owned()));
        }
        text += &line("**set-up, s**", setup());
        text += &line("**all cases, s**", self.took());
        let reasons: Vec<_> = reasons.iter().map(|(why, cases)| format!("- {why} ({})\n", cases.join(", "))).collect();
        let legend = "✓ right, ✗ wrong, – no words for it, · not run";
        format!("{text}\n{legend}\n\nNo words for it:\n\n{}", reasons.concat())
    }

    fn json(&self) -> Value {
        let cell = |cell: &Cell| match cell {
            Cell::Right => json!({"is": "right"}),
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

impl Cell {
    fn mark(&self) -> &'static str {
        match self {
            Cell::Right => "✓",
            Cell::Wrong(_) => "✗",
            Cell::NotExpressible(_) => "–",
            Cell::NotRun => "·",
        }
    }
}
