//! A plot in text: what arrived per step against the governor's limit, with the outage shaded. Pure.
//!
//! A cell is two steps wide and four dots high (braille), so that a terminal shows 48 levels in 12 lines.

use std::fmt::Write as _;
use std::ops::Range;

/// Lines of the plot, without the axis.
const ROWS: usize = 12;
/// Dots of one cell, from the bottom up, of its left and its right half.
const DOTS: [[u32; 4]; 2] = [[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]];
const EMPTY: u32 = 0x2800;

/// What is to be shown; one value for each step.
#[derive(Debug)]
pub(super) struct Series {
    /// Length of a step, in milliseconds.
    pub(super) step_ms: u64,
    /// Arrived, records a second.
    pub(super) emission: Vec<u64>,
    /// The limit, records a second.
    pub(super) limit: Vec<u64>,
    /// Steps in which the central was away.
    pub(super) away: Range<usize>,
}

/// The plot and its legend; every line ends with a newline.
pub(super) fn draw(series: &Series) -> String {
    let most = series.emission.iter().chain(&series.limit).copied().max().unwrap_or(0).max(1);
    let cells = series.emission.len().div_ceil(2);
    let dots = |value: u64| (u128::from(value) * (ROWS as u128 * 4) / u128::from(most)) as usize;
    let mut text = String::new();
    for row in (0..ROWS).rev() {
        let label = match row {
            _ if row == ROWS - 1 => super::grouped(most),
            _ if row == ROWS / 2 - 1 => super::grouped(most / 2),
            _ => String::new(),
        };
        let _ = write!(text, "{label:>9} │");
        let line: String = (0..cells).map(|cell| series.cell(cell, row, dots)).collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str(&axis(cells, series.step_ms));
    let _ = writeln!(
        text,
        "{:>9}  ⣿ records/s at the central, each {} ms   ╌━ the governor's limit   ░ the central is away",
        "", series.step_ms
    );
    text
}

impl Series {
    fn cell(&self, cell: usize, row: usize, dots: impl Fn(u64) -> usize) -> char {
        let mut pattern = EMPTY;
        for (half, bits) in DOTS.iter().enumerate() {
            let level = dots(self.emission.get(cell * 2 + half).copied().unwrap_or(0));
            for (height, bit) in bits.iter().enumerate() {
                if level > row * 4 + height {
                    pattern |= bit;
                }
            }
        }
        let limit = self.limit.get(cell * 2).map_or(0, |limit| dots(*limit));
        if limit > 0 && (limit - 1) / 4 == row {
            if pattern == EMPTY { '╌' } else { '━' }
        } else if pattern != EMPTY {
            char::from_u32(pattern).expect("braille is one block of characters")
        } else if self.away.contains(&(cell * 2)) {
            '░'
        } else {
            ' '
        }
    }
}

fn axis(cells: usize, step_ms: u64) -> String {
    let cell_ms = 2 * step_ms;
    let mut line = format!("{:>9} └", "0");
    let mut labels = " ".repeat(11);
    for cell in 0..cells as u64 {
        let is_mark = (cell * cell_ms).is_multiple_of(4_000);
        line.push(if is_mark { '┴' } else { '─' });
        if is_mark {
            let label = format!("{} s", cell * cell_ms / 1_000);
            let column = 11 + cell as usize;
            labels.push_str(&" ".repeat(column.saturating_sub(labels.chars().count())));
            labels.push_str(&label);
        }
    }
    format!("{line}\n{labels}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn height_is_proportional_and_the_outage_is_shaded() {
        let series = Series {
            step_ms: 250,
            emission: vec![400, 400, 0, 0, 200, 200],
            limit: vec![300; 6],
            away: 2..4,
        };
        let text = draw(&series);
        let columns: Vec<Vec<char>> = text
            .lines()
            .take(ROWS)
            .map(|line| {
                let (_, cells) = line.split_once('│').unwrap();
                let mut cells: Vec<char> = cells.chars().collect();
                cells.resize(3, ' ');
                cells
            })
            .collect();
        let of = |column: usize, what: char| columns.iter().filter(|line| line[column] == what).count();
        assert_eq!((of(0, '⣿'), of(0, '━'), of(1, '⣿'), of(2, '⣿')), (11, 1, 0, 6));
        assert_eq!((of(1, '░'), of(1, '╌'), of(2, '╌')), (11, 1, 1));
        assert_eq!(columns[3][2], '╌', "three quarters up");
    }

    #[test]
    fn nothing_at_all_can_be_drawn() {
        let empty = Series { step_ms: 250, emission: Vec::new(), limit: Vec::new(), away: 0..0 };
        assert_eq!(draw(&empty).lines().count(), ROWS + 3);
    }
}
