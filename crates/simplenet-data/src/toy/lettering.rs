//! Printed legends: letters drawn as strokes, so that they stay smooth at any size.

use super::random::floor;
use super::shape::{Point, inside, path_distance};

/// One line of print.
pub(super) struct Line {
    pub(super) text: &'static str,
    /// Left end of the line at half the height of its letters.
    pub(super) at: Point,
    /// Height of a capital letter in pixels.
    pub(super) height: f32,
}

/// Lines of print, ready to be asked how much ink lies at a point.
#[derive(Clone, Debug)]
pub(super) struct Lettering {
    lines: Vec<PrintedLine>,
}

#[derive(Clone, Debug)]
struct PrintedLine {
    /// Left end at half height, as in [`Line`].
    at: Point,
    /// Width of one letter and the gap after it.
    advance: f32,
    height: f32,
    pen: f32,
    /// By position in the line; spaces have none.
    letters: Vec<Vec<[Point; 2]>>,
}

impl Lettering {
    pub(super) fn new(lines: &[Line]) -> Self {
        Self {
            lines: lines.iter().map(PrintedLine::new).collect(),
        }
    }

    /// From 0 (bare) to 1 (printed).
    pub(super) fn ink(&self, p: Point) -> f32 {
        self.lines.iter().map(|line| line.ink(p)).fold(0.0, f32::max)
    }
}

impl PrintedLine {
    fn new(line: &Line) -> Self {
        let unit = line.height / 6.0;
        let advance = 5.4 * unit;
        let letters = line.text.chars().enumerate().map(|(index, letter)| {
            let left = line.at[0] + advance * index as f32;
            let place = |[x, y]: [u8; 2]| [left + unit * f32::from(x), line.at[1] + unit * (f32::from(y) - 3.0)];
            let strokes = outline(letter).iter().flat_map(|path| path.windows(2));
            strokes.map(|ends| [place(ends[0]), place(ends[1])]).collect()
        });
        let (at, height, pen) = (line.at, line.height, (0.45 * unit).max(0.35));
        Self {
            at,
            advance,
            height,
            pen,
            letters: letters.collect(),
        }
    }

    fn ink(&self, p: Point) -> f32 {
        const EDGE: f32 = 0.6;
        if (p[1] - self.at[1]).abs() > 0.5 * self.height + self.pen + EDGE {
            return 0.0;
        }
        // Half the gap before a letter is nearer to it than to the one before.
        let position = floor((p[0] - self.at[0]) / self.advance + 0.13);
        let Some(strokes) = usize::try_from(position).ok().and_then(|index| self.letters.get(index)) else {
            return 0.0;
        };
        inside(
            path_distance(p, strokes.iter().copied(), self.pen + EDGE) - self.pen,
            EDGE,
        )
    }
}

/// The strokes of a letter on a grid 4 wide and 6 high; an unknown letter is a box.
fn outline(letter: char) -> &'static [&'static [[u8; 2]]] {
    match letter {
        '0' | 'O' => &[&[[1, 0], [3, 0], [4, 1], [4, 5], [3, 6], [1, 6], [0, 5], [0, 1], [1, 0]]],
        '1' => &[&[[1, 1], [2, 0], [2, 6]], &[[1, 6], [3, 6]]],
        '2' => &[&[[0, 1], [1, 0], [3, 0], [4, 1], [4, 2], [0, 6], [4, 6]]],
        '3' => &[&[[0, 0], [4, 0], [2, 2], [4, 4], [4, 5], [3, 6], [1, 6], [0, 5]]],
        '4' => &[&[[3, 6], [3, 0], [0, 4], [4, 4]]],
        '5' => &[&[[4, 0], [0, 0], [0, 2], [3, 2], [4, 3], [4, 5], [3, 6], [0, 6]]],
        '6' => &[&[
            [4, 0],
            [1, 0],
            [0, 1],
            [0, 5],
            [1, 6],
            [3, 6],
            [4, 5],
            [4, 4],
            [3, 3],
            [0, 3],
        ]],
        'B' => &[&[
            [0, 3],
            [3, 3],
            [4, 4],
            [4, 5],
            [3, 6],
            [0, 6],
            [0, 0],
            [3, 0],
            [4, 1],
            [4, 2],
            [3, 3],
        ]],
        'C' => &[&[[4, 1], [3, 0], [1, 0], [0, 1], [0, 5], [1, 6], [3, 6], [4, 5]]],
        'E' => &[&[[4, 0], [0, 0], [0, 6], [4, 6]], &[[0, 3], [3, 3]]],
        'I' => &[&[[2, 0], [2, 6]]],
        'L' => &[&[[0, 0], [0, 6], [4, 6]]],
        'M' => &[&[[0, 6], [0, 0], [2, 3], [4, 0], [4, 6]]],
        'N' => &[&[[0, 6], [0, 0], [4, 6], [4, 0]]],
        'P' => &[&[[0, 6], [0, 0], [3, 0], [4, 1], [4, 2], [3, 3], [0, 3]]],
        'R' => &[
            &[[0, 6], [0, 0], [3, 0], [4, 1], [4, 2], [3, 3], [0, 3]],
            &[[2, 3], [4, 6]],
        ],
        'S' => &[&[
            [4, 0],
            [1, 0],
            [0, 1],
            [0, 2],
            [1, 3],
            [3, 3],
            [4, 4],
            [4, 5],
            [3, 6],
            [0, 6],
        ]],
        'T' => &[&[[0, 0], [4, 0]], &[[2, 0], [2, 6]]],
        'U' => &[&[[0, 0], [0, 5], [1, 6], [3, 6], [4, 5], [4, 0]]],
        'V' => &[&[[0, 0], [2, 6], [4, 0]]],
        '-' => &[&[[1, 3], [3, 3]]],
        ' ' => &[],
        _ => &[&[[0, 0], [4, 0], [4, 6], [0, 6], [0, 0]]],
    }
}
