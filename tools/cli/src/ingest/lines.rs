//! Cuts pieces of a stream into lines, lending each where it lies; keeps at most one line and its limit.

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut<'a> {
    /// A line without its newline.
    Line(&'a [u8]),
    /// A line longer than the limit; it is left out, and the next one is as any other.
    TooLong,
}

/// The beginning of a line whose end has not come.
#[derive(Debug)]
pub(crate) struct Lines {
    line_bytes_max: usize,
    carry: Vec<u8>,
    /// What is in `carry` was lent and is over.
    is_lent: bool,
    /// The line is too long, and its end has not come.
    is_skipping: bool,
}

impl Lines {
    /// Lines of `line_bytes_max` bytes at most.
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, carry: Vec::new(), is_lent: false, is_skipping: false }
    }

    /// The next line that ends in `piece`, from `at` on; `None` when the rest is kept for the next piece.
    pub(crate) fn next<'s>(&'s mut self, piece: &'s [u8], at: &mut usize) -> Option<Cut<'s>> {
        if std::mem::take(&mut self.is_lent) {
            self.carry.clear();
        }
        let rest = &piece[*at..];
        let end = memchr::memchr(b'\n', rest);
        let part = &rest[..end.unwrap_or(rest.len())];
        *at += end.map_or(rest.len(), |end| end + 1);
        if self.is_skipping {
            self.is_skipping = end.is_none();
            return if end.is_some() { self.next(piece, at) } else { None };
        }
        if self.carry.len() + part.len() > self.line_bytes_max {
            self.carry = Vec::new();
            self.is_skipping = end.is_none();
            return Some(Cut::TooLong);
        }
        if end.is_some() && self.carry.is_empty() {
            return Some(Cut::Line(part));
        }
        self.carry.extend_from_slice(part);
        self.is_lent = end.is_some();
        end.map(|_| Cut::Line(self.carry.as_slice()))
    }

    /// At the end of the stream: a last line without newline.
    pub(crate) fn last(&mut self) -> Option<&[u8]> {
        (!self.is_lent && !self.carry.is_empty()).then_some(self.carry.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(input: &[u8], step: usize) -> (Vec<String>, Option<String>) {
        let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
        let mut lines = Lines::new(5);
        let mut found = Vec::new();
        for piece in input.chunks(step) {
            let mut at = 0;
            while let Some(cut) = lines.next(piece, &mut at) {
                found.push(match cut {
                    Cut::Line(line) => text(line),
                    Cut::TooLong => "!".into(),
                });
            }
            assert_eq!(at, piece.len());
        }
        (found, lines.last().map(text))
    }

    #[test]
    fn lines_are_the_same_wherever_the_pieces_end() {
        for step in 1..30 {
            let (found, last) = cut(b"ab\r\n\n12345\n123456\ntoolong for it\nc\nlast", step);
            assert_eq!(found, ["ab\r", "", "12345", "!", "!", "c"], "{step}");
            assert_eq!(last.as_deref(), Some("last"));
            assert_eq!(cut(b"a\n", step), (vec!["a".to_owned()], None));
        }
        assert_eq!(cut(b"endless without", 3), (vec!["!".to_owned()], None));
    }
}
