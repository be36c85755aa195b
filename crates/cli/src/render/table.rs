//! Columns that line up. Knows widths and nothing of what stands in the cells.

use std::io;

use crate::{page::Page, text::Text};

const GAP: usize = 2;

/// Rows under a heading; the last column wraps, the others are as wide as they must be.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<Text>,
    /// Lines of their own under the row.
    details: Vec<Text>,
}

impl Table {
    /// A heading that starts with `>` has its column aligned to the right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Text>) {
        self.rows.push(Row { cells: cells.into_iter().collect(), details: Vec::new() });
    }

    /// A line under the row that came last.
    pub(crate) fn detail(&mut self, text: Text) {
        if let Some(row) = self.rows.last_mut() {
            row.details.push(text);
        }
    }

    pub(crate) fn write(self, page: &mut Page<'_>) -> io::Result<()> {
        let columns: Vec<Column> = (0..self.headings.len()).map(|index| self.column(index)).collect();
        let headings = columns.iter().map(|column| Text::new().quiet(column.title)).collect::<Vec<_>>();
        write_cells(page, &columns, &headings)?;
        for row in &self.rows {
            write_cells(page, &columns, &row.cells)?;
            for detail in &row.details {
                page.indented(GAP).paragraph(detail.clone())?;
            }
        }
        Ok(())
    }

    fn column(&self, index: usize) -> Column {
        let heading = self.headings.get(index).copied().unwrap_or_default();
        let (title, right) = heading.strip_prefix('>').map_or((heading, false), |title| (title, true));
        let cells = self.rows.iter().filter_map(|row| row.cells.get(index)).map(Text::width);
        let width = cells.max().unwrap_or(0).max(Text::from(title).width());
        Column { title, right, width }
    }
}

struct Column {
    title: &'static str,
    right: bool,
    width: usize,
}

fn write_cells(page: &mut Page<'_>, columns: &[Column], cells: &[Text]) -> io::Result<()> {
    let mut line = Text::new();
    let mut left = 0;
    let used = cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
    for (index, (column, cell)) in columns.iter().zip(cells).take(used).enumerate() {
        let padding = " ".repeat(column.width.saturating_sub(cell.width()));
        if index + 1 == columns.len() && !column.right {
            // Too narrow a rest would be a column of single words: let the line stick out instead.
            let width = page.width().saturating_sub(left).max(24);
            let mut wrapped = cell.wrap(width).into_iter();
            page.line(line.then(wrapped.next().unwrap_or_default()))?;
            return wrapped.try_for_each(|rest| page.indented(left).line(rest));
        }
        line =
            if column.right { line.plain(padding).then(cell.clone()) } else { line.then(cell.clone()).plain(padding) };
        if index + 1 < used {
            line = line.plain(" ".repeat(GAP));
        }
        left += column.width + GAP;
    }
    page.line(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Look, written};

    #[test]
    fn columns_line_up_numbers_to_the_right_and_the_last_one_wraps() {
        let mut table = Table::new(&["NAME", ">CALLS", "SUMMARY"]);
        table.row(["triage".into(), "7".into(), Text::from("sorts what comes in by how urgent it is")]);
        table.detail("127.0.0.1:7000 serving".into());
        table.row([Text::new().accent("x"), "1200".into(), "short".into()]);
        let text = written(Look { width: 42, ..Look::PLAIN }, |page| table.write(page));
        let expected = "\
NAME    CALLS  SUMMARY
triage      7  sorts what comes in by how
               urgent it is
  127.0.0.1:7000 serving
x        1200  short
";
        assert_eq!(text, expected);
    }
}
