//! Tables and short texts for people.

/// Between two columns.
const GAP: &str = "  ";

/// On which side the cells of a column stand in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a line of titles.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: one cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell for each column");
        self.rows.push(cells.iter().map(|cell| one_line(cell)).collect());
    }

    /// The lines of the table.
    pub fn render(&self) -> String {
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(self.columns[index].0.chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let cells = row.iter().zip(&self.columns).zip(&widths).map(|((cell, (_, align)), width)| {
                let blank = " ".repeat(width.saturating_sub(cell.chars().count()));
                match align {
                    Align::Left => format!("{cell}{blank}"),
                    Align::Right => format!("{blank}{cell}"),
                }
            });
            text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
            text.push('\n');
        }
        text
    }
}

/// Names and their values, one a line.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        format!("{name:<width$}{GAP}{}", one_line(value)).trim_end().to_owned() + "\n"
    };
    facts.iter().map(line).collect()
}

/// `text` without what moves the cursor of a terminal: some of it comes from other machines.
pub fn one_line(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

/// A number that may be unknown.
pub fn number(value: Option<f64>, unit: &str) -> String {
    match value {
        None => "–".into(),
        Some(value) if value.abs() < 10.0 => format!("{value:.1}{unit}"),
        Some(value) => format!("{value:.0}{unit}"),
    }
}

/// Seconds since 1970 as date and time of day, in UTC.
pub fn time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// The day that is so many days after 1 January 1970: years are counted from March on, so that the leap day is the last.
const fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_line_and_lines_have_no_blank_end() {
        let mut table =
            Table::new(&[("NODE", Align::Left), ("VIEWERS", Align::Right), ("PARENTS", Align::Left)]);
        table.row(["egress-1".into(), "12/1000".into(), "relay-1".into()]);
        table.row(["é".into(), "3".into(), String::new()]);
        assert_eq!(
            table.render(),
            "NODE      VIEWERS  PARENTS\negress-1  12/1000  relay-1\né               3\n"
        );
    }

    #[test]
    fn what_a_node_says_of_itself_cannot_steer_the_terminal() {
        let mut table = Table::new(&[("REGION", Align::Left)]);
        table.row(["eu\u{1b}[2J\nfake".into()]);
        assert_eq!(table.render(), "REGION\neu [2J fake\n");
        assert_eq!(facts(&[("a", "x\ry".into()), ("long", String::new())]), "a     x y\nlong\n");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // date --utc --date=@N
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_709_251_199, "2024-02-29 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn what_is_unknown_is_no_zero() {
        assert_eq!(number(None, " %"), "–");
        assert_eq!(number(Some(0.0), " %"), "0.0 %");
        assert_eq!(number(Some(62.4), " %"), "62 %");
    }
}
