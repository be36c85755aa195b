//! The one way to write a result: text laid out for people or JSON for programs, over any `Write`. What text means and
//! how it is arranged is `render`'s business; where it goes is `main`'s.

use std::io::{self, Write};

use owo_colors::{OwoColorize as _, Style};
use serde::Serialize;

use crate::{
    error::Trouble,
    render,
    text::{Text, Tone},
    view,
};

/// What the reader's end can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub colour: bool,
    /// Columns.
    pub width: usize,
    /// A person is looking: what changes may be drawn again in place.
    pub terminal: bool,
}

/// A sink and how to write to it.
pub struct Page<'a> {
    sink: &'a mut dyn Write,
    look: Look,
    indent: usize,
}

impl Look {
    /// What a file or a pipe gets.
    pub const PLAIN: Look = Look { colour: false, width: 96, terminal: false };
}

impl<'a> Page<'a> {
    pub fn new(sink: &'a mut dyn Write, look: Look) -> Self {
        Self { sink, look, indent: 0 }
    }

    /// Complains. Where nobody hears it, the exit code is all that is left to say.
    pub fn trouble(&mut self, trouble: &Trouble) {
        let _ = render::trouble(self, trouble);
    }

    /// The same to a program, as one JSON document.
    pub(crate) fn failure(&mut self, failure: &view::CallFailure) {
        let _ = self.json(&serde_json::json!({ "error": failure }));
    }

    pub(crate) fn look(&self) -> Look {
        self.look
    }

    /// Columns left beside the indentation.
    pub(crate) fn width(&self) -> usize {
        self.look.width.saturating_sub(self.indent).max(20)
    }

    /// The same page, further to the right.
    pub(crate) fn indented(&mut self, by: usize) -> Page<'_> {
        Page { sink: self.sink, look: self.look, indent: self.indent + by }
    }

    /// One line, as long as it is.
    pub(crate) fn line(&mut self, text: impl Into<Text>) -> io::Result<()> {
        let text = text.into();
        write!(self.sink, "{:indent$}", "", indent = if text.is_empty() { 0 } else { self.indent })?;
        for (piece, tone) in text.pieces() {
            self.piece(piece, tone)?;
        }
        writeln!(self.sink)
    }

    pub(crate) fn blank(&mut self) -> io::Result<()> {
        writeln!(self.sink)
    }

    /// As many lines as it takes.
    pub(crate) fn paragraph(&mut self, text: impl Into<Text>) -> io::Result<()> {
        let text = self.marked(text.into());
        text.wrap(self.width()).into_iter().try_for_each(|line| self.line(line))
    }

    /// `label` on the left, the text in a column of its own beside it.
    pub(crate) fn beside(&mut self, label: &str, label_width: usize, text: impl Into<Text>) -> io::Result<()> {
        let text = self.marked(text.into());
        let width = self.width().saturating_sub(label_width).max(20);
        for (index, line) in text.wrap(width).into_iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.line(Text::new().quiet(format!("{label:label_width$}")).then(line))?;
        }
        Ok(())
    }

    /// One document, indented for reading.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self.sink, value)?;
        writeln!(self.sink)
    }

    /// One document of many, on a line of its own.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self.sink, value)?;
        writeln!(self.sink)?;
        self.flush()
    }

    /// Forgets what the terminal shows, to draw it again.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        if self.look.terminal { write!(self.sink, "\x1b[H\x1b[2J\x1b[3J") } else { Ok(()) }
    }

    /// A raw piece without a line break, for text that arrives bit by bit.
    pub(crate) fn continued(&mut self, text: &str) -> io::Result<()> {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                writeln!(self.sink)?;
            }
            for (piece, tone) in Text::from(line).pieces() {
                self.piece(piece, tone)?;
            }
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    fn piece(&mut self, piece: &str, tone: Tone) -> io::Result<()> {
        let style = if self.look.colour { style(tone) } else { Style::new() };
        write!(self.sink, "{}", piece.style(style))
    }

    /// Without colour, the part that answers stands between stars.
    fn marked(&self, text: Text) -> Text {
        if self.look.colour {
            return text;
        }
        text.pieces().fold(Text::new(), |marked, (piece, tone)| match tone {
            Tone::Best => marked.with(format!("*{piece}*"), tone),
            _ => marked.with(piece, tone),
        })
    }
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Strong => Style::new().bold(),
        Tone::Quiet => Style::new().dimmed(),
        Tone::Accent => Style::new().cyan().bold(),
        Tone::Good => Style::new().green(),
        Tone::Warn => Style::new().yellow(),
        Tone::Bad => Style::new().red().bold(),
        Tone::Best => Style::new().bold().underline(),
    }
}

impl std::fmt::Debug for Page<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").field("look", &self.look).field("indent", &self.indent).finish_non_exhaustive()
    }
}

/// What `write` puts on a page of that look.
#[cfg(test)]
pub(crate) fn written(look: Look, write: impl FnOnce(&mut Page<'_>) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut Page::new(&mut bytes, look)).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_become_colours_only_where_colour_is_wanted() {
        let text = || Text::new().plain("all ").with("well", Tone::Good);
        assert_eq!(written(Look::PLAIN, |page| page.line(text())), "all well\n");
        let coloured = written(Look { colour: true, ..Look::PLAIN }, |page| page.line(text()));
        assert_eq!(coloured, "all \u{1b}[32mwell\u{1b}[0m\n");
    }

    #[test]
    fn the_best_part_is_marked_either_way() {
        let text = || Text::new().plain("one ").with("two three", Tone::Best);
        assert_eq!(written(Look::PLAIN, |page| page.paragraph(text())), "one *two three*\n");
        let coloured = written(Look { colour: true, ..Look::PLAIN }, |page| page.paragraph(text()));
        assert!(!coloured.contains('*') && coloured.contains("\u{1b}["), "{coloured:?}");
    }

    #[test]
    fn a_label_stands_beside_its_text() {
        let look = Look { width: 30, ..Look::PLAIN };
        let text = written(look, |page| page.indented(2).beside("why", 6, "one two three four five six"));
        assert_eq!(text, "  why   one two three four\n        five six\n");
    }

    #[test]
    fn nothing_is_cleared_in_a_pipe() {
        let text = written(Look::PLAIN, |page| {
            page.clear()?;
            page.line("next")
        });
        assert_eq!(text, "next\n");
    }
}
