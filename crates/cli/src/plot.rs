//! An evaluation as a picture: how far stated confidences hold, and what being careful brings. One SVG, as text; nothing
//! is computed here but where things are drawn.

use std::fmt::{self, Write as _};

use consilium_gate::evaluate::{Bin, Point};

const WIDTH: u32 = 910;
const HEIGHT: u32 = 430;
/// Of a panel's plotting area, in pixels.
const SIDE: (f64, f64) = (340.0, 270.0);
const TOP: f64 = 70.0;
/// Of the strip with the counts, below the first panel's axis.
const STRIP: (f64, f64) = (362.0, 30.0);
/// A curve through more points looks the same.
const MOST_POINTS: usize = 400;
/// The first few queries decide nothing: where one of two is wrong, half of what is covered is.
const SETTLED: f64 = 0.02;
/// Upper ends of the axis of risks.
const RISKS: [f64; 7] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    /// What was measured, in a few words.
    pub(crate) title: String,
    pub(crate) rows: usize,
    /// Shares, 0..=1.
    pub(crate) ece: Option<f64>,
    pub(crate) bins: Vec<Bin>,
    /// By rising coverage.
    pub(crate) curve: Vec<Point>,
    /// Where the gate's own bars put it.
    pub(crate) decided: Option<Point>,
}

/// A panel: where its area begins, and what its axes reach.
struct Panel {
    left: f64,
    x_end: f64,
    y_end: f64,
}

impl Picture {
    pub(crate) fn svg(&self) -> String {
        let mut svg = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut svg);
        svg
    }

    fn write(&self, svg: &mut String) -> fmt::Result {
        writeln!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="t">
  <title id="t">{}: how far stated confidences hold, and the share of wrong answers by the share of queries answered.</title>
  <style>
    text {{ fill: #1f2328 }}
    .dim {{ fill: #57606a; font-size: 11px }}
    .few {{ fill: #57606a; font-size: 9px }}
    .axis {{ stroke: #57606a; stroke-width: 1.2; fill: none }}
    .grid {{ stroke: #d0d7de; stroke-width: 1 }}
    .bar {{ fill: #ddf4ff; stroke: #0969da; stroke-width: 1.2 }}
    .count {{ fill: #8c959f }}
    .ideal {{ stroke: #57606a; stroke-width: 1.2; stroke-dasharray: 4 4 }}
    .curve {{ stroke: #0969da; stroke-width: 2; fill: none }}
    .mean {{ fill: #0969da }}
    .here {{ fill: #bc4c00 }}
  </style>
  <defs><clipPath id="c"><rect x="540" y="{TOP}" width="{}" height="{}"/></clipPath></defs>
  <rect x="0" y="0" width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
  <text x="20" y="28" font-weight="600">{}</text>"##,
            escaped(&self.title),
            SIDE.0,
            SIDE.1,
            escaped(&self.title),
        )?;
        self.reliability(svg)?;
        self.risk(svg)?;
        writeln!(svg, "</svg>")
    }

    fn reliability(&self, svg: &mut String) -> fmt::Result {
        let panel = Panel { left: 76.0, x_end: 1.0, y_end: 1.0 };
        let ece = self.ece.map_or(String::new(), |ece| format!(", ECE {:.1} %", ece * 100.0));
        panel.frame(svg, &format!("Does a confidence hold?  n = {}{ece}", self.rows), ["right", ""])?;
        let most = self.bins.iter().map(|bin| bin.rows).max().unwrap_or(1) as f64;
        for bin in &self.bins {
            let (x, width) = (panel.x(bin.from) + 1.0, panel.x(bin.to) - panel.x(bin.from) - 2.0);
            let (y, middle) = (panel.y(bin.right), x + width / 2.0);
            writeln!(
                svg,
                r#"  <rect class="bar" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}"><title>{} queries, confidence {:.3}, right {:.3}</title></rect>
  <circle class="mean" cx="{:.1}" cy="{y:.1}" r="2.5"/>"#,
                panel.y(0.0) - y,
                bin.rows,
                bin.confidence,
                bin.right,
                panel.x(bin.confidence),
            )?;
            let height = (bin.rows as f64 / most * STRIP.1).max(1.0);
            let (y, under) = (STRIP.0 + STRIP.1 - height, STRIP.0 + STRIP.1 + 11.0);
            writeln!(
                svg,
                r#"  <rect class="count" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>
  <text class="few" x="{middle:.1}" y="{under:.1}" text-anchor="middle">{}</text>"#,
                short(bin.rows),
            )?;
        }
        let (x, y) = (panel.x(0.0), STRIP.0 + STRIP.1 / 2.0 + 4.0);
        writeln!(
            svg,
            r#"  <path class="ideal" d="M{:.1} {:.1}L{:.1} {:.1}"/>
  <text class="dim" x="{:.1}" y="{y:.1}" text-anchor="end">queries</text>
  <text class="dim" x="{:.1}" y="{:.1}" text-anchor="middle">stated confidence, %; the number of queries with it</text>"#,
            panel.x(0.0),
            panel.y(0.0),
            panel.x(1.0),
            panel.y(1.0),
            x - 8.0,
            panel.x(0.5),
            f64::from(HEIGHT) - 12.0,
        )
    }

    fn risk(&self, svg: &mut String) -> fmt::Result {
        let settled = self.curve.iter().filter(|point| point.coverage >= SETTLED);
        let highest = settled.chain(&self.decided).map(|point| point.risk).fold(0.0, f64::max);
        let y_end = RISKS.into_iter().find(|end| *end >= highest).unwrap_or(1.0);
        let panel = Panel { left: 540.0, x_end: 1.0, y_end };
        panel.frame(
            svg,
            "What being careful brings",
            ["wrong", "share of queries answered, most confident first, %"],
        )?;
        let step = self.curve.len().div_ceil(MOST_POINTS).max(1);
        let last = self.curve.len().saturating_sub(1);
        let points: Vec<String> = self
            .curve
            .iter()
            .enumerate()
            .filter(|(at, _)| at % step == 0 || *at == last)
            .map(|(_, point)| format!("{:.1},{:.1}", panel.x(point.coverage), panel.y(point.risk)))
            .collect();
        writeln!(svg, r#"  <polyline class="curve" clip-path="url(#c)" points="{}"/>"#, points.join(" "))?;
        let Some(here) = self.decided else { return Ok(()) };
        let (x, y) = (panel.x(here.coverage), panel.y(here.risk));
        let label =
            format!("as decided: {:.1} % answered, {:.1} % of them wrong", here.coverage * 100.0, here.risk * 100.0);
        writeln!(
            svg,
            r#"  <circle class="here" cx="{x:.1}" cy="{y:.1}" r="4"/>
  <text class="dim" x="{:.1}" y="{:.1}">{label}</text>"#,
            panel.x(0.0) + 10.0,
            TOP + 16.0,
        )
    }
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        self.left + value / self.x_end * SIDE.0
    }

    fn y(&self, value: f64) -> f64 {
        TOP + SIDE.1 - value / self.y_end * SIDE.1
    }

    /// Axes with fifths in per cent, a heading, and what the axes say.
    fn frame(&self, svg: &mut String, heading: &str, [y_label, x_label]: [&str; 2]) -> fmt::Result {
        writeln!(svg, r#"  <text x="{:.1}" y="{:.1}">{}</text>"#, self.left, TOP - 14.0, escaped(heading))?;
        let (bottom, right) = (TOP + SIDE.1, self.left + SIDE.0);
        for fifth in 0..=5 {
            let share = f64::from(fifth) / 5.0;
            let (x, y) = (self.x(share * self.x_end), self.y(share * self.y_end));
            writeln!(
                svg,
                r#"  <path class="grid" d="M{:.1} {y:.1}H{right:.1}"/>
  <text class="dim" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>
  <text class="dim" x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                self.left,
                self.left - 6.0,
                y + 4.0,
                per_cent(share * self.y_end),
                bottom + 14.0,
                per_cent(share * self.x_end),
            )?;
        }
        let (middle, beside) = (TOP + SIDE.1 / 2.0, self.left - 40.0);
        writeln!(
            svg,
            r#"  <path class="axis" d="M{:.1} {TOP}V{bottom:.1}H{right:.1}"/>
  <text class="dim" x="{beside:.1}" y="{middle:.1}" text-anchor="middle" transform="rotate(-90 {beside:.1} {middle:.1})">{y_label}, %</text>
  <text class="dim" x="{:.1}" y="{:.1}" text-anchor="middle">{x_label}</text>"#,
            self.left,
            self.left + SIDE.0 / 2.0,
            bottom + 34.0,
        )
    }
}

/// `20`, or `0.4` where whole ones would not do.
fn per_cent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn short(rows: usize) -> String {
    if rows < 10_000 { rows.to_string() } else { format!("{}k", rows / 1_000) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let statements = [(0.95, true), (0.9, true), (0.7, false), (0.4, true), (0.1, false)];
        Picture {
            title: "a <set> & more".to_owned(),
            rows: statements.len(),
            ece: Some(0.034),
            bins: consilium_gate::evaluate::bins(&statements),
            curve: consilium_gate::evaluate::risk_coverage(&statements),
            decided: Some(Point { coverage: 0.6, risk: 1.0 / 3.0 }),
        }
    }

    #[test]
    fn a_picture_has_both_diagrams_with_their_numbers() {
        let svg = picture().svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("a &lt;set&gt; &amp; more") && svg.contains("n = 5, ECE 3.4 %"), "{svg}");
        assert_eq!(svg.matches(r#"class="bar""#).count(), 5);
        assert_eq!(svg.matches(r#"class="count""#).count(), 5);
        assert!(svg.contains("as decided: 60.0 % answered, 33.3 % of them wrong"), "{svg}");
        // Every answer given, two of five are wrong: the axis of risks ends at a half.
        assert!(svg.contains(r#"points="608.0,340.0 676.0,340.0 "#) && svg.contains("880.0,124.0\""), "{svg}");
    }

    #[test]
    fn every_element_is_closed() {
        let svg = picture().svg();
        for element in ["svg", "title", "style", "defs", "clipPath", "text"] {
            let opened = svg.matches(&format!("<{element}>")).count() + svg.matches(&format!("<{element} ")).count();
            assert_eq!(opened, svg.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[test]
    fn a_long_curve_is_thinned_and_nothing_to_draw_is_no_trouble() {
        let curve = (1..=5_000).map(|at| Point { coverage: f64::from(at) / 5_000.0, risk: 0.01 }).collect();
        let svg = Picture { curve, ..Picture::default() }.svg();
        let points = svg.lines().find(|line| line.contains("polyline")).unwrap().matches(',').count();
        assert!(points <= MOST_POINTS + 1, "{points}");
        assert!(Picture::default().svg().ends_with("</svg>\n"));
    }
}
