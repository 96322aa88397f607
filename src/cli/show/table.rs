//! Columns that line up, and as many of them as there is room for.

use super::paint::{Paint, Tone, cut, tame};

/// Between two columns.
const GAP: usize = 2;

/// A cell that is cut to fit keeps so many characters.
const CUT_MIN: usize = 8;

/// One column.
#[derive(Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub side: Side,
    /// Columns with a larger number go first when there is no room for all; those with 0 stay.
    pub rank: u8,
}

/// On which side its cells line up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// Rows of cells, each with one for every column.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

pub const fn left(title: &'static str, rank: u8) -> Column {
    Column { title, side: Side::Left, rank }
}

pub const fn right(title: &'static str, rank: u8) -> Column {
    Column { title, side: Side::Right, rank }
}

impl Cell {
    pub fn new(tone: Tone, text: impl AsRef<str>) -> Cell {
        Cell { text: tame(text.as_ref()), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(Tone::Plain, text)
    }
}

impl Table {
    pub fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<_> = cells.into_iter().collect();
        cells.resize_with(self.columns.len(), Cell::default);
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its lines, the titles first, in `width` columns of the terminal if there are so few.
    pub fn lines(&self, width: Option<usize>, paint: Paint) -> Vec<String> {
        let mut shown: Vec<_> = (0..self.columns.len()).collect();
        let mut widths: Vec<_> = (0..self.columns.len()).map(|at| self.width(at)).collect();
        let total = |shown: &[usize], widths: &[usize]| {
            shown.iter().map(|at| widths[*at] + GAP).sum::<usize>().saturating_sub(GAP)
        };
        if let Some(width) = width {
            while total(&shown, &widths) > width {
                // Its last column is the one that can be long: it is cut before others go.
                let last = shown[shown.len() - 1];
                let excess = total(&shown, &widths) - width;
                let is_cut = self.columns[last].side == Side::Left
                    && widths[last].saturating_sub(excess) >= CUT_MIN;
                let rank = |at: &usize| self.columns[*at].rank;
                let least = shown.iter().copied().filter(|at| rank(at) > 0).max_by_key(rank);
                match least {
                    _ if is_cut => widths[last] -= excess,
                    Some(at) => shown.retain(|it| *it != at),
                    None => break,
                }
            }
        }
        let titles = self.columns.iter().map(|column| Cell::new(Tone::Title, column.title));
        let titles: Vec<_> = titles.collect();
        let rows = std::iter::once(&titles).chain(&self.rows);
        rows.map(|row| self.line(row, &shown, &widths, paint)).collect()
    }

    fn line(&self, row: &[Cell], shown: &[usize], widths: &[usize], paint: Paint) -> String {
        let mut line = String::new();
        for (place, at) in shown.iter().enumerate() {
            let (cell, width) = (&row[*at], widths[*at]);
            let text = cut(&cell.text, width);
            let padding = " ".repeat(width - text.chars().count());
            let gap = if place == 0 { 0 } else { GAP };
            line += &" ".repeat(gap);
            line += &match self.columns[*at].side {
                Side::Right => format!("{padding}{}", paint.on(cell.tone, &text)),
                Side::Left if place + 1 == shown.len() => paint.on(cell.tone, &text),
                Side::Left => format!("{}{padding}", paint.on(cell.tone, &text)),
            };
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// How wide a column is if nothing is cut.
    fn width(&self, at: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[at].text.chars().count());
        cells.max().unwrap_or(0).max(self.columns[at].title.chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(&[left("APP", 0), right("BUSY", 0), right("CPU", 9), left("ROUTES", 5)]);
        table.row(["shop".into(), "12".into(), "3%".into(), "shop.example/".into()]);
        table.row([
            "a".into(),
            Cell::new(Tone::Bad, "7"),
            "100%".into(),
            "a.example/, b.example/".into(),
        ]);
        table
    }

    #[test]
    fn columns_line_up() {
        let expected = [
            "APP   BUSY   CPU  ROUTES",
            "shop    12    3%  shop.example/",
            "a        7  100%  a.example/, b.example/",
        ];
        assert_eq!(table().lines(None, Paint::NONE), expected);
    }

    #[test]
    fn where_there_is_no_room_the_last_is_cut_and_then_the_least_go() {
        let fits = |width: usize| {
            let lines = table().lines(Some(width), Paint::NONE);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            lines
        };
        assert_eq!(fits(26)[2], "a        7  100%  a.examp…");
        assert_eq!(fits(20)[2], "a        7  a.examp…");
        assert_eq!(fits(12)[1], "shop    12");
        assert_eq!(table().lines(Some(3), Paint::NONE)[0], "APP   BUSY", "these stay");
    }

    #[test]
    fn what_guests_bring_along_does_not_reach_the_terminal() {
        let mut table = Table::new(&[left("WHY", 0)]);
        table.row(["\x1b[2Jgone\n".into()]);
        assert_eq!(table.lines(None, Paint::NONE)[1], " [2Jgone");
    }
}
