//! What is going on and how long it took, on standard error: a spinner where a person watches, lines where a file or a
//! pipe reads, nothing where nobody asked.

use std::{
    borrow::Cow,
    io::{IsTerminal as _, Write as _, stderr},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::{render::brief, view::milliseconds};

const TICK: Duration = Duration::from_millis(80);

/// Where steps are shown. Clones show them in the same place.
#[derive(Clone, Debug)]
pub struct Progress(Mode);

#[derive(Clone, Debug)]
enum Mode {
    Silent,
    Lines,
    Spinners(MultiProgress),
}

/// Something that takes a while. Dropped without [`Step::done`], it failed or is no longer wanted, and vanishes: the
/// error that follows says why.
#[derive(Debug)]
pub struct Step {
    what: Cow<'static, str>,
    began: Instant,
    shown: Shown,
}

/// Shows on a step how far it is, from whichever thread does the work.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    what: Cow<'static, str>,
    shown: Shown,
}

#[derive(Clone, Debug)]
enum Shown {
    Nothing,
    Line,
    Spinner(ProgressBar),
}

impl Progress {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self(Mode::Silent)
    }

    /// Spinners on a terminal, else lines.
    pub fn shown() -> Self {
        if stderr().is_terminal() { Self(Mode::Spinners(MultiProgress::new())) } else { Self(Mode::Lines) }
    }

    /// Spinners on a terminal, else nothing: for waits that leave no trace.
    pub fn spinner_only() -> Self {
        if stderr().is_terminal() { Self::shown() } else { Self::silent() }
    }

    /// A step of which lines tell already when it begins: it may take long, and whoever reads should know what it is.
    pub(crate) fn long_step(&self, what: impl Into<Cow<'static, str>>, remark: &str) -> Step {
        let what = what.into();
        if matches!(self.0, Mode::Lines) {
            line(&format!("{what}: {remark}"));
        }
        let step = self.step(what);
        step.gauge().show(remark);
        step
    }

    pub fn step(&self, what: impl Into<Cow<'static, str>>) -> Step {
        let what = what.into();
        let shown = match &self.0 {
            Mode::Silent => Shown::Nothing,
            Mode::Lines => Shown::Line,
            Mode::Spinners(bars) => {
                let bar = bars.add(ProgressBar::new_spinner().with_message(what.clone()));
                bar.set_style(spinning());
                bar.enable_steady_tick(TICK);
                Shown::Spinner(bar)
            }
        };
        Step { what, began: Instant::now(), shown }
    }
}

impl Step {
    pub(crate) fn gauge(&self) -> Gauge {
        Gauge { what: self.what.clone(), shown: self.shown.clone() }
    }

    /// Leaves a line that says how long it took, and `remark` where there is something to remark.
    pub fn done(self, remark: &str) {
        let remark = if remark.is_empty() { String::new() } else { format!("  {remark}") };
        let line = format!("{:<36} {:>8}{remark}", self.what, brief(milliseconds(self.began.elapsed())));
        match &self.shown {
            Shown::Nothing => {}
            Shown::Line => self::line(&line),
            Shown::Spinner(bar) => {
                bar.set_style(finished());
                bar.finish_with_message(line);
            }
        }
    }
}

impl Gauge {
    /// For a person who watches.
    pub(crate) fn show(&self, how_far: &str) {
        if let Shown::Spinner(bar) = &self.shown {
            bar.set_message(format!("{}  {how_far}", self.what));
        }
    }

    /// For whoever reads afterwards as well.
    pub(crate) fn tell(&self, what_happened: &str) {
        match &self.shown {
            Shown::Line => line(&format!("{}: {what_happened}", self.what)),
            Shown::Nothing | Shown::Spinner(_) => self.show(what_happened),
        }
    }
}

/// Where nobody reads standard error, nobody misses the line either.
fn line(line: &str) {
    drop(writeln!(stderr().lock(), "{line}"));
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Shown::Spinner(bar) = &self.shown
            && !bar.is_finished()
        {
            bar.finish_and_clear();
        }
    }
}

fn spinning() -> ProgressStyle {
    template("{spinner:.cyan} {msg}")
}

fn finished() -> ProgressStyle {
    template("{spinner:.green} {msg}")
}

fn template(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", "✓"])
}
