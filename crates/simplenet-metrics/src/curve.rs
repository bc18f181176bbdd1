use crate::ranking::{Level, Ranking};
use crate::{Error, Result};

/// A point of a curve; the function that returns it says what the axes are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Horizontal position, 0 to 1.
    pub x: f64,
    /// Vertical position, 0 to 1.
    pub y: f64,
}

pub(crate) fn check_points(asked: usize) -> Result<()> {
    if asked < 3 {
        Err(Error::CurvePoints { asked })
    } else {
        Ok(())
    }
}

/// The corners of a curve over the false-positive rate, from (0, 0) to (1, 1); `y_at` is the height once a level has
/// passed. Between two levels only normal scores pass, so the curve runs level there.
pub(crate) fn corners(ranking: &Ranking, mut y_at: impl FnMut(&Level) -> f64) -> Vec<CurvePoint> {
    let normal = ranking.normal_count() as f64;
    let mut corners = vec![CurvePoint { x: 0.0, y: 0.0 }];
    let mut passed = 0;
    let mut y = 0.0;
    for level in ranking.levels() {
        if level.false_positives_above > passed {
            corners.push(CurvePoint {
                x: level.false_positives_above as f64 / normal,
                y,
            });
        }
        passed = level.false_positives;
        y = y_at(&level);
        corners.push(CurvePoint {
            x: passed as f64 / normal,
            y,
        });
    }
    if passed < ranking.normal_count() {
        corners.push(CurvePoint { x: 1.0, y });
    }
    corners
}

/// Area under the lines that join `points`, up to `x == limit`.
pub(crate) fn area(points: &[CurvePoint], limit: f64) -> f64 {
    let mut area = 0.0;
    for pair in points.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        if start.x >= limit {
            break;
        }
        if end.x > limit {
            let y = start.y + (end.y - start.y) * (limit - start.x) / (end.x - start.x);
            return area + (limit - start.x) * (start.y + y) / 2.0;
        }
        area += (end.x - start.x) * (start.y + end.y) / 2.0;
    }
    area
}

/// At most `max_points` points of a curve that rises in both directions from (0, 0) to (1, 1), with the same area.
///
/// Stretches of equal length (counted as way right plus way up) become two lines each, from start to end over a middle
/// point. Among the middle points on the falling diagonal of the stretch's box, one keeps the area: with a share `t` of
/// the way up and `1 - t` of the way right, the area over the box's floor is `t * width * height`.
pub(crate) fn thin_keeping_area(corners: Vec<CurvePoint>, max_points: usize) -> Vec<CurvePoint> {
    if corners.len() <= max_points {
        return corners;
    }
    let stretches = (max_points - 1) / 2;
    let mut thinned = Vec::with_capacity(max_points);
    thinned.extend(corners.first());
    let mut start = 0;
    let mut ended = 0;
    for (index, &end) in corners.iter().enumerate().skip(1) {
        let is_last = index + 1 == corners.len();
        let reached = (((end.x + end.y) / 2.0 * stretches as f64) as usize).min(stretches - 1);
        if reached == ended && !is_last {
            continue;
        }
        ended = reached;
        let (from, stretch) = (corners[start], &corners[start..=index]);
        start = index;
        let (width, height) = (end.x - from.x, end.y - from.y);
        if width > 0.0 && height > 0.0 {
            let raised = area(stretch, f64::INFINITY) - from.y * width;
            let t = (raised / (width * height)).clamp(0.0, 1.0);
            thinned.push(CurvePoint {
                x: from.x + (1.0 - t) * width,
                y: from.y + t * height,
            });
        }
        thinned.push(end);
    }
    thinned
}
