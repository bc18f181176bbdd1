//! From a surface to light: height field, lamp, shadow, reflection.
//!
//! A category describes what lies under the camera as one [`Surface`] per sample, two samples per pixel and side.
//! [`Light::expose`] shades it: normals come from the slope of the height field, shadows from walking that field
//! towards the lamp, creases darken by how far they lie below their surroundings. `Camera::develop` adds what a lens and a
//! sensor add.

use super::random::{Random, floor, mix_between};
use super::shape::Point;

/// Side of a photograph in pixels.
pub(super) const SIDE: usize = 256;
/// Samples per pixel along one side.
const SAMPLES: usize = 2;
const GRID: usize = SIDE * SAMPLES;

/// What lies under one sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surface {
    /// Pixels above the table; its slope gives the normal.
    pub(super) height: f32,
    /// Linear reflectance of red, green and blue. For metal, the colour of its reflections.
    pub(super) albedo: [f32; 3],
    /// 0 for paint, wood and cloth; 1 for bare metal.
    pub(super) metal: f32,
    /// GGX roughness along the tangent and across it.
    pub(super) roughness: [f32; 2],
    /// Direction of brush or lathe marks, a unit vector.
    pub(super) tangent: Point,
    /// The sample belongs to the defect: it was altered, or what should be here is missing.
    pub(super) damaged: bool,
}

impl Surface {
    pub(super) fn matte(height: f32, albedo: [f32; 3], roughness: f32) -> Self {
        Self {
            height,
            albedo,
            metal: 0.0,
            roughness: [roughness; 2],
            tangent: [1.0, 0.0],
            damaged: false,
        }
    }

    pub(super) fn metal(height: f32, albedo: [f32; 3], roughness: f32) -> Self {
        Self {
            metal: 1.0,
            ..Self::matte(height, albedo, roughness)
        }
    }
}

/// All samples of one photograph, row by row.
pub(super) struct Canvas {
    surfaces: Vec<Surface>,
    heights: Vec<f32>,
    summit: f32,
}

impl Canvas {
    /// Calls `surface` at the centre of every sample, in pixels.
    pub(super) fn paint(surface: impl Fn(Point) -> Surface) -> Self {
        let centre = |index: usize| (index as f32 + 0.5) / SAMPLES as f32;
        let surfaces: Vec<Surface> = (0..GRID * GRID)
            .map(|i| surface([centre(i % GRID), centre(i / GRID)]))
            .collect();
        let heights: Vec<f32> = surfaces.iter().map(|surface| surface.height).collect();
        let summit = heights.iter().copied().fold(f32::MIN, f32::max);
        Self {
            surfaces,
            heights,
            summit,
        }
    }

    /// One flag per pixel: any of its samples is damaged.
    pub(super) fn damaged(&self) -> Vec<bool> {
        let mut pixels = vec![false; SIDE * SIDE];
        for (index, surface) in self.surfaces.iter().enumerate() {
            pixels[pixel_of(index)] |= surface.damaged;
        }
        pixels
    }

    fn height(&self, column: usize, row: usize) -> f32 {
        self.heights[row * GRID + column]
    }

    /// Mean height of the square of `2 * reach + 1` samples around each sample.
    fn surroundings(&self, reach: usize) -> Vec<f32> {
        let along_rows = box_mean(&self.heights, reach, GRID, 1);
        box_mean(&along_rows, reach, 1, GRID)
    }
}

fn pixel_of(sample: usize) -> usize {
    (sample / GRID / SAMPLES) * SIDE + sample % GRID / SAMPLES
}

/// Running mean along one axis of a square field; the ends repeat the border.
fn box_mean(field: &[f32], reach: usize, line_stride: usize, step: usize) -> Vec<f32> {
    let mut means = vec![0.0; field.len()];
    let width = (2 * reach + 1) as f32;
    for line in 0..GRID {
        let at = |position: isize| line * line_stride + position.clamp(0, GRID as isize - 1) as usize * step;
        let reach = reach as isize;
        let mut sum: f32 = (-reach..=reach).map(|position| field[at(position)]).sum();
        for position in 0..GRID as isize {
            means[at(position)] = sum / width;
            sum += field[at(position + reach + 1)] - field[at(position - reach)];
        }
    }
    means
}

/// A lamp at a finite distance, a weak second lamp opposite, and light from everywhere.
#[derive(Clone, Debug)]
pub(super) struct Light {
    /// Where the lamp hangs, in pixels from the middle of the table.
    pub(super) lamp: [f32; 3],
    pub(super) strength: f32,
    pub(super) ambient: f32,
}

impl Light {
    /// `lamp` moved and dimmed a little, as from one shift to the next.
    pub(super) fn vary(lamp: [f32; 3], strength: f32, ambient: f32, random: &mut Random) -> Self {
        let lamp = [
            lamp[0] + random.around(45.0),
            lamp[1] + random.around(45.0),
            lamp[2] + random.around(30.0),
        ];
        let strength = strength * random.between(0.93, 1.07);
        Self {
            lamp,
            strength,
            ambient: ambient * random.between(0.95, 1.05),
        }
    }

    /// Linear light per pixel, before the lens.
    pub(super) fn expose(&self, canvas: &Canvas) -> Vec<[f32; 3]> {
        let mut film = vec![[0.0; 3]; SIDE * SIDE];
        let surroundings = canvas.surroundings(4);
        let shadow_ray = ShadowRay::new(self.lamp);
        let middle = 0.5 * SIDE as f32;
        let share = 1.0 / (SAMPLES * SAMPLES) as f32;
        for (index, surface) in canvas.surfaces.iter().enumerate() {
            let [column, row] = [index % GRID, index / GRID];
            let place = [
                column as f32 / SAMPLES as f32 - middle,
                row as f32 / SAMPLES as f32 - middle,
                surface.height,
            ];
            let crease = (1.0 - 0.16 * (surroundings[index] - surface.height).max(0.0)).max(0.25);
            let light = self.shade(
                surface,
                normal(canvas, column, row),
                place,
                shadow_ray.light(canvas, column, row),
                crease,
            );
            for (pixel, light) in film[pixel_of(index)].iter_mut().zip(light) {
                *pixel += share * light;
            }
        }
        film
    }

    /// Light from one sample at `place`; `shadow` and `crease` are 1 where nothing keeps light away.
    fn shade(&self, surface: &Surface, normal: [f32; 3], place: [f32; 3], shadow: f32, crease: f32) -> [f32; 3] {
        let to_lamp = difference(self.lamp, place);
        let falloff = dot(self.lamp, self.lamp) / dot(to_lamp, to_lamp);
        let to_lamp = unit(to_lamp);
        let opposite = unit([-self.lamp[0], -self.lamp[1], self.lamp[2]]);

        let lit = self.strength * falloff * shadow;
        let fill = 0.3 * self.strength;
        let diffuse = lit * dot(normal, to_lamp).max(0.0)
            + fill * dot(normal, opposite).max(0.0)
            + self.ambient * crease * (0.6 + 0.4 * normal[2]);
        let key_gloss = lit * reflection(surface, normal, to_lamp) + fill * reflection(surface, normal, opposite);
        // What a mirror sees of the hall: dim walls, bright ceiling.
        let mirrored_up = 2.0 * normal[2] * normal[2] - 1.0;
        let hall = self.ambient * crease * mix_between(0.25, 0.9, (0.5 + 0.5 * mirrored_up).clamp(0.0, 1.0));
        surface.albedo.map(|albedo| {
            let mirror = mix_between(0.04, albedo, surface.metal);
            albedo * (1.0 - surface.metal) * diffuse + mirror * (key_gloss + hall)
        })
    }
}

fn normal(canvas: &Canvas, column: usize, row: usize) -> [f32; 3] {
    let [left, right] = [column.saturating_sub(1), (column + 1).min(GRID - 1)];
    let [above, below] = [row.saturating_sub(1), (row + 1).min(GRID - 1)];
    let slope = |rise: f32, samples: usize| rise * SAMPLES as f32 / samples as f32;
    let across = slope(canvas.height(right, row) - canvas.height(left, row), right - left);
    let down = slope(
        canvas.height(column, below) - canvas.height(column, above),
        below - above,
    );
    unit([-across, -down, 1.0])
}

/// The walk from a sample towards the lamp. The lamp is far: one direction serves the whole picture.
struct ShadowRay {
    steps: [ShadowStep; 12],
}

struct ShadowStep {
    columns: isize,
    rows: isize,
    /// How far the ray has risen.
    rise: f32,
    /// Width of the half shadow here.
    blur: f32,
}

impl ShadowRay {
    fn new(lamp: [f32; 3]) -> Self {
        let flat = (lamp[0] * lamp[0] + lamp[1] * lamp[1]).sqrt().max(1.0);
        let mut reach = 1.5;
        let steps = std::array::from_fn(|_| {
            let step = ShadowStep {
                columns: floor(lamp[0] / flat * reach + 0.5) as isize,
                rows: floor(lamp[1] / flat * reach + 0.5) as isize,
                rise: lamp[2] / flat * reach / SAMPLES as f32,
                blur: 0.6 + 0.12 * reach,
            };
            reach *= 1.28;
            step
        });
        Self { steps }
    }

    /// 1 in full light, 0 in full shadow: what stands highest above the ray decides.
    fn light(&self, canvas: &Canvas, column: usize, row: usize) -> f32 {
        let start = canvas.height(column, row);
        let mut light: f32 = 1.0;
        for step in &self.steps {
            let ray = start + step.rise;
            let (Some(column), Some(row)) = (
                column.checked_add_signed(step.columns),
                row.checked_add_signed(step.rows),
            ) else {
                break;
            };
            if ray > canvas.summit || column >= GRID || row >= GRID {
                break;
            }
            let blocked = canvas.height(column, row) - ray;
            if blocked > 0.0 {
                light = light.min(1.0 - blocked / step.blur);
            }
        }
        light.max(0.0)
    }
}

/// Microfacet reflection (anisotropic GGX; Burley 2012) seen from straight above, without its Fresnel factor.
fn reflection(surface: &Surface, normal: [f32; 3], to_lamp: [f32; 3]) -> f32 {
    if dot(normal, to_lamp) <= 0.0 {
        return 0.0;
    }
    let half = unit([to_lamp[0], to_lamp[1], to_lamp[2] + 1.0]);
    let [along, across] = surface.roughness;
    let z = dot(half, normal);
    let steepness = normal[2].max(0.35);
    if along == across {
        // The same formula without a direction.
        let density = z * z + (1.0 - z * z) / (along * along);
        return 0.25 / (along * along * density * density * steepness);
    }
    let flat = [surface.tangent[0], surface.tangent[1], 0.0];
    let lean = dot(normal, flat);
    let tangent = unit(difference(flat, normal.map(|n| n * lean)));
    let bitangent = cross(normal, tangent);
    let [x, y] = [dot(half, tangent) / along, dot(half, bitangent) / across];
    let density = x * x + y * y + z * z;
    0.25 / (along * across * density * density * steepness)
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

fn difference(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn unit(a: [f32; 3]) -> [f32; 3] {
    let length = dot(a, a).sqrt().max(1e-6);
    a.map(|x| x / length)
}
