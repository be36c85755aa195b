//! Pieces of text with a tone, and how wide they are on a terminal. What a tone looks like is decided when a page is
//! written; nothing here writes.

use unicode_width::UnicodeWidthStr as _;

/// What a piece of text is, not how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// A heading or a name.
    Strong,
    /// What the eye may skip.
    Quiet,
    /// The expert or the value that was asked for.
    Accent,
    Good,
    Warn,
    Bad,
    /// The part that answers. Marked with `*` where there is no colour, because it carries meaning.
    Best,
}

/// A line made of pieces. Control characters never get in, so text from the network cannot steer a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text(Vec<(String, Tone)>);

impl Text {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, text: impl AsRef<str>, tone: Tone) -> Self {
        self.push(&clean(text.as_ref()), tone);
        self
    }

    pub(crate) fn plain(self, text: impl AsRef<str>) -> Self {
        self.with(text, Tone::Plain)
    }

    pub(crate) fn strong(self, text: impl AsRef<str>) -> Self {
        self.with(text, Tone::Strong)
    }

    pub(crate) fn quiet(self, text: impl AsRef<str>) -> Self {
        self.with(text, Tone::Quiet)
    }

    pub(crate) fn accent(self, text: impl AsRef<str>) -> Self {
        self.with(text, Tone::Accent)
    }

    pub(crate) fn then(mut self, other: Text) -> Self {
        for (text, tone) in other.0 {
            self.push(&text, tone);
        }
        self
    }

    /// Neighbours of one tone are one piece: a colour is switched on once for them, not once for each.
    fn push(&mut self, text: &str, tone: Tone) {
        match self.0.last_mut() {
            Some((last, last_tone)) if *last_tone == tone => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push((text.to_owned(), tone)),
        }
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = (&str, Tone)> {
        self.0.iter().map(|(text, tone)| (text.as_str(), *tone))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Columns on a terminal.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(text, _)| text.width()).sum()
    }

    /// The same text in lines of at most `width` columns, broken between words. A word that is wider than that stands
    /// alone and sticks out: breaking an address or a name would make it useless.
    pub(crate) fn wrap(&self, width: usize) -> Vec<Text> {
        if self.width() <= width {
            // As it was written, gaps included.
            return vec![self.clone()];
        }
        let mut lines = Vec::new();
        let mut line = Text::new();
        for word in self.words() {
            if !line.is_empty() && line.width() + 1 + word.width() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.append_space(&word);
            }
            line = line.then(word);
        }
        lines.push(line);
        lines
    }

    /// Words, each in the pieces that it is made of: a tone may change inside a word.
    fn words(&self) -> Vec<Text> {
        let mut words = vec![Text::new()];
        for (text, tone) in &self.0 {
            for (index, part) in text.split(' ').enumerate() {
                if index > 0 {
                    words.push(Text::new());
                }
                if let Some(word) = words.last_mut() {
                    word.push(part, *tone);
                }
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    /// The space between two words of one tone has that tone, so that an underlined or reversed sentence has no gaps.
    fn append_space(&mut self, next: &Text) {
        let following = next.0.first().map(|(_, tone)| *tone);
        match self.0.last_mut() {
            Some((text, tone)) if Some(*tone) == following => text.push(' '),
            _ => self.0.push((" ".to_owned(), Tone::Plain)),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text::new().plain(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text::new().plain(text)
    }
}

/// Line breaks and tabs become spaces, other control characters (escape sequences, direction overrides) a visible mark.
fn clean(text: &str) -> String {
    let character = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &Text, width: usize) -> Vec<String> {
        text.wrap(width).iter().map(|line| line.pieces().map(|(text, _)| text).collect()).collect()
    }

    #[test]
    fn lines_break_between_words_and_long_words_stay_whole() {
        assert_eq!(lines(&"one two three".into(), 7), ["one two", "three"]);
        assert_eq!(lines(&"see http://127.0.0.1:7600/x now".into(), 8), ["see", "http://127.0.0.1:7600/x", "now"]);
        assert_eq!(lines(&"".into(), 8), [""]);
    }

    #[test]
    fn tones_survive_the_wrapping_and_may_change_inside_a_word() {
        let text = Text::new().plain("be").strong("gin now").quiet(". end");
        let wrapped = text.wrap(11);
        let first: Vec<_> = wrapped[0].pieces().collect();
        let expected = [("be", Tone::Plain), ("gin now", Tone::Strong), (".", Tone::Quiet)];
        assert_eq!(first, expected);
        assert_eq!(lines(&text, 9), ["begin", "now. end"]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(Text::from("薬と薬").width(), 6);
        assert_eq!(lines(&"薬と 薬と".into(), 6), ["薬と", "薬と"]);
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        let text = Text::from("a\u{1b}[2Jb\u{202e}c\nd");
        assert_eq!(lines(&text, 80), ["a\u{fffd}[2Jb\u{fffd}c d"]);
    }
}
