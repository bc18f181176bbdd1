//! Plane geometry: points, signed distances (negative inside), soft steps.

use super::random::{Noise, Random, mix_between};

/// A point or a vector of the image plane, in pixels, y down.
pub(super) type Point = [f32; 2];

pub(super) fn length(p: Point) -> f32 {
    (p[0] * p[0] + p[1] * p[1]).sqrt()
}

pub(super) fn subtract(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

/// The coordinates of `p` along `axis` (a unit vector) and across it.
pub(super) fn along_across(p: Point, axis: Point) -> Point {
    [p[0] * axis[0] + p[1] * axis[1], p[1] * axis[0] - p[0] * axis[1]]
}

/// The unit vector at a small angle (radians) to the x axis: the tangent half-angle form, exact for any input.
pub(super) fn tilt(angle: f32) -> Point {
    let half = 0.5 * angle;
    let norm = 1.0 + half * half;
    [(1.0 - half * half) / norm, 2.0 * half / norm]
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// 1 inside a signed distance, 0 outside, with an edge `width` pixels wide.
pub(super) fn inside(distance: f32, width: f32) -> f32 {
    (0.5 - distance / width).clamp(0.0, 1.0)
}

/// Signed distance to a rectangle with rounded corners, centred at the origin.
pub(super) fn rounded_box(p: Point, half: Point, radius: f32) -> f32 {
    let q = [p[0].abs() - half[0] + radius, p[1].abs() - half[1] + radius];
    length([q[0].max(0.0), q[1].max(0.0)]) + q[0].max(q[1]).min(0.0) - radius
}

/// Distance to the nearest of some line segments; `f32::MAX` when all are further than `reach`.
pub(super) fn path_distance(p: Point, segments: impl Iterator<Item = [Point; 2]>, reach: f32) -> f32 {
    let mut nearest = reach * reach;
    for [from, to] in segments {
        let outside =
            |axis: usize| p[axis] < from[axis].min(to[axis]) - reach || p[axis] > from[axis].max(to[axis]) + reach;
        if outside(0) || outside(1) {
            continue;
        }
        let [ap, ab] = [subtract(p, from), subtract(to, from)];
        let square = (ab[0] * ab[0] + ab[1] * ab[1]).max(1e-6);
        let t = ((ap[0] * ab[0] + ap[1] * ab[1]) / square).clamp(0.0, 1.0);
        let [x, y] = [ap[0] - t * ab[0], ap[1] - t * ab[1]];
        nearest = nearest.min(x * x + y * y);
    }
    if nearest < reach * reach {
        nearest.sqrt()
    } else {
        f32::MAX
    }
}

pub(super) fn blend(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    [
        mix_between(a[0], b[0], t),
        mix_between(a[1], b[1], t),
        mix_between(a[2], b[2], t),
    ]
}

pub(super) fn scale(colour: [f32; 3], factor: f32) -> [f32; 3] {
    [colour[0] * factor, colour[1] * factor, colour[2] * factor]
}

/// A spill: an ellipse with an irregular outline.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) centre: Point,
    pub(super) radius: f32,
    axis: Point,
    stretch: f32,
    outline: Noise,
    ragged: f32,
}

impl Blob {
    /// `ragged` is 0 for an ellipse, about 0.5 for a splash.
    pub(super) fn new(centre: Point, radius: f32, ragged: f32, random: &mut Random) -> Self {
        let axis = random.direction();
        let stretch = random.between(1.0, 1.45);
        Self {
            centre,
            radius,
            axis,
            stretch,
            outline: random.noise(),
            ragged,
        }
    }

    /// Signed distance to the outline in pixels; approximate, exact in sign.
    pub(super) fn distance(&self, p: Point) -> f32 {
        let [along, across] = along_across(subtract(p, self.centre), self.axis);
        let [u, v] = [along / self.radius / self.stretch, across / self.radius * self.stretch];
        let far = length([u, v]);
        if far > 2.0 {
            return (far - 1.0) * self.radius;
        }
        (far - 1.0 + self.ragged * self.outline.fractal(u * 1.6, v * 1.6, 3)) * self.radius
    }
}

/// A scratch or a crack: a line that wavers, tapers at both ends and has raised edges.
#[derive(Clone, Debug)]
pub(super) struct Scratch {
    middle: Point,
    axis: Point,
    half_length: f32,
    half_width: f32,
    bow: f32,
    waver: f32,
    noise: Noise,
}

/// Where a point lies in a [`Scratch`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Groove {
    /// From 0 at the rim to 1 in the bed.
    pub(super) depth: f32,
    /// From 0 to 1 on the raised edges.
    pub(super) burr: f32,
}

impl Scratch {
    /// `waver` is the reach, in pixels, of the irregular deviation from the line.
    pub(super) fn new(middle: Point, axis: Point, length: f32, width: f32, waver: f32, random: &mut Random) -> Self {
        let half_length = 0.5 * length;
        let bow = random.around(0.12) * length;
        Self {
            middle,
            axis,
            half_length,
            half_width: 0.5 * width,
            bow,
            waver,
            noise: random.noise(),
        }
    }

    /// Without its overall bend: a crack follows the fibres.
    pub(super) fn straighten(&mut self) {
        self.bow = 0.0;
    }

    pub(super) fn groove(&self, p: Point) -> Option<Groove> {
        let [along, across] = along_across(subtract(p, self.middle), self.axis);
        let position = along / self.half_length;
        if position.abs() >= 1.0 || across.abs() > self.bow.abs() + self.waver + 3.0 * self.half_width {
            return None;
        }
        let path = self.bow * (0.5 - position * position) + self.waver * self.noise.fractal(along / 22.0, 0.0, 3);
        let taper = (1.0 - position * position).sqrt() * (1.0 + 0.35 * self.noise.at(along / 6.0, 9.5));
        let width = (self.half_width * taper).max(0.2);
        let offset = (across - path).abs() / width;
        if offset >= 1.7 {
            return None;
        }
        let depth = (1.0 - offset * offset).max(0.0);
        let burr = (1.0 - (offset - 1.25).abs() / 0.45).max(0.0);
        Some(Groove { depth, burr })
    }
}
