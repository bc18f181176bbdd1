//! `grain`: a sanded board, growth rings cut almost along the trunk.

use super::photograph::{Canvas, Light, SIDE, Surface};
use super::random::{Drift, Noise, Random, floor};
use super::shape::{Blob, Point, Scratch, along_across, blend, inside, scale, smoothstep, subtract, tilt};
use super::{Category, CategoryKind, Damage};

pub(super) const CATEGORY: Category = Category {
    name: "grain",
    kind: CategoryKind::Texture,
    description: "sanded pine board",
    defects: &["scratch", "hole", "glue", "crack"],
    paint,
};

const EARLY_WOOD: [f32; 3] = [0.62, 0.39, 0.19];
const LATE_WOOD: [f32; 3] = [0.27, 0.105, 0.035];
const INNER: [f32; 3] = [0.045, 0.025, 0.015];

fn paint(random: &Random, damage: Option<&Damage>) -> (Canvas, Light) {
    let board = Board::new(&mut random.stream("board"));
    let defect = damage.map(|damage| Defect::new(damage, &board));
    let canvas = Canvas::paint(|p| {
        let mut surface = board.surface(p);
        if let Some(defect) = &defect {
            defect.apply(p, &mut surface);
        }
        surface
    });
    (
        canvas,
        Light::vary([-560.0, 180.0, 640.0], 0.78, 0.28, &mut random.stream("light")),
    )
}

struct Board {
    axis: Point,
    /// The pith of the trunk: sideways, and below the cut, in pixels.
    pith: Point,
    rise: f32,
    ring_width: f32,
    sway: Drift,
    cloud: Drift,
    tremor: Noise,
    ring: Noise,
    fibre: Noise,
    pore: Noise,
}

impl Board {
    fn new(random: &mut Random) -> Self {
        let [sway, cloud] = [random.noise(), random.noise()];
        Self {
            axis: tilt(random.around(0.04)),
            pith: [random.between(-330.0, -250.0), random.between(20.0, 90.0)],
            rise: random.around(0.10),
            ring_width: random.between(17.0, 21.0),
            sway: Drift::new(|x, y| {
                16.0 * sway.fractal(x / 150.0, y / 280.0, 2) + 1.1 * sway.at(x / 18.0 + 50.0, y / 110.0)
            }),
            cloud: Drift::new(|x, y| cloud.fractal(x / 45.0, y / 160.0, 2)),
            tremor: random.noise(),
            ring: random.noise(),
            fibre: random.noise(),
            pore: random.noise(),
        }
    }

    fn surface(&self, p: Point) -> Surface {
        let middle = 0.5 * SIDE as f32;
        let [across, along] = along_across(subtract(p, [middle, middle]), self.axis);
        let sway = self.sway.at(p) + 0.5 * self.tremor.at(across / 4.0, along / 24.0);
        let [side, depth] = [across + sway - self.pith[0], self.pith[1] + self.rise * along];
        let rings = (side * side + depth * depth).sqrt() / self.ring_width;
        // Ring widths vary from year to year.
        let rings = rings + 0.6 * self.ring.along(rings * 0.37, 0);
        let year = rings - floor(rings) as f32;
        let strength = 0.40 + 0.60 * self.ring.cell(floor(rings), 7);
        // Pale early wood darkens over the season and ends sharply.
        let late =
            strength * smoothstep(0.10, 0.95, year) * smoothstep(0.0, 0.95, year) * (1.0 - smoothstep(0.96, 1.0, year));

        let fibre = self.fibre.at(across / 2.6, along / 90.0) + 0.8 * self.fibre.at(across / 1.1 + 40.0, along / 55.0);
        let fine = self.fibre.at(across / 0.62 + 90.0, along / 20.0);
        let cloud = self.cloud.at(p);
        let sanding = self.fibre.at(across / 26.0, along / 0.8 + 300.0);
        let pore = self.pore_depth(across, along);

        let tone = 1.0 + 0.16 * fibre + 0.26 * fine + 0.20 * cloud + 0.04 * sanding;
        let wood = scale(blend(EARLY_WOOD, LATE_WOOD, late.clamp(0.0, 1.0)), tone);
        let albedo = blend(wood, scale(LATE_WOOD, 0.35), 0.55 * pore);
        let height = 0.05 * fibre + 0.08 * fine + 0.05 * sanding - 0.30 * pore;
        Surface {
            tangent: [self.axis[1], self.axis[0]],
            roughness: [0.38, 0.55],
            ..Surface::matte(height, albedo, 0.5)
        }
    }

    /// Short dark vessels along the grain: at most one per cell of a tall lattice.
    fn pore_depth(&self, across: f32, along: f32) -> f32 {
        const CELL: Point = [3.1, 30.0];
        let column = floor(across / CELL[0]);
        // Columns are shifted against each other, so that no row shows.
        let shifted = along / CELL[1] + 7.0 * self.pore.cell(column, -9_000);
        let row = floor(shifted);
        let [i, j] = [column, row];
        if self.pore.cell(i, j) > 0.42 {
            return 0.0;
        }
        let middle = 0.25 + 0.5 * self.pore.cell(i + 7_000, j);
        let half_length = 0.10 + 0.36 * self.pore.cell(i, j + 7_000);
        let half_width = 0.15 + 0.30 * self.pore.cell(i + 7_000, j + 7_000);
        let offset = (across - (column as f32 + middle) * CELL[0]).abs();
        let end = 1.0 - ((shifted - row as f32 - 0.5) / half_length).abs();
        inside(offset - half_width, 1.0) * smoothstep(0.0, 0.35, end)
    }
}

enum Defect {
    Scratch {
        groove: Scratch,
        depth: f32,
        bleach: f32,
    },
    Hole {
        outline: Blob,
    },
    Glue {
        outline: Blob,
        ripple: Noise,
        thickness: f32,
    },
    Crack {
        groove: Scratch,
    },
}

impl Defect {
    fn new(damage: &Damage, board: &Board) -> Self {
        let mut random = damage.random.clone();
        let severity = damage.severity;
        let centre = [random.between(62.0, 194.0), random.between(62.0, 194.0)];
        match CATEGORY.defects[damage.kind] {
            "scratch" => {
                let slant = tilt(random.around(0.7));
                let long = 38.0 + 90.0 * severity;
                let groove = Scratch::new(centre, slant, long, 1.5 + 2.0 * severity, 1.5, &mut random);
                Self::Scratch {
                    groove,
                    depth: 0.9 + 1.2 * severity,
                    bleach: 0.30 + 0.40 * severity,
                }
            }
            "hole" => Self::Hole {
                outline: Blob::new(centre, 3.2 + 8.0 * severity, 0.10, &mut random),
            },
            "glue" => {
                let outline = Blob::new(centre, 8.0 + 20.0 * severity, 0.40, &mut random);
                Self::Glue {
                    outline,
                    ripple: random.noise(),
                    thickness: 0.8 + 1.4 * severity,
                }
            }
            _ => {
                let [c, s] = tilt(random.around(0.06));
                let grain = [board.axis[1], board.axis[0]];
                let axis = [grain[0] * c - grain[1] * s, grain[0] * s + grain[1] * c];
                let mut groove = Scratch::new(
                    centre,
                    axis,
                    42.0 + 110.0 * severity,
                    1.9 + 3.0 * severity,
                    3.0,
                    &mut random,
                );
                groove.straighten();
                Self::Crack { groove }
            }
        }
    }

    fn apply(&self, p: Point, surface: &mut Surface) {
        match self {
            Self::Scratch { groove, depth, bleach } => {
                let Some(groove) = groove.groove(p) else { return };
                surface.height += depth * (0.35 * groove.burr - groove.depth);
                // Torn fibres scatter more light than sanded ones.
                surface.albedo = blend(
                    surface.albedo,
                    [0.80, 0.66, 0.46],
                    bleach * groove.depth.max(0.4 * groove.burr),
                );
                surface.damaged = true;
            }
            Self::Hole { outline } => {
                let distance = outline.distance(p);
                let inner = inside(distance, 1.2);
                let scorch = inside(distance - 1.6, 2.0);
                surface.albedo = blend(scale(surface.albedo, 1.0 - 0.45 * scorch), INNER, inner);
                surface.height -= 7.0 * inner + 0.5 * scorch;
                surface.roughness = surface.roughness.map(|roughness| roughness + 0.6 * inner);
                surface.damaged = distance < 2.2;
            }
            Self::Glue {
                outline,
                ripple,
                thickness,
            } => {
                let distance = outline.distance(p);
                if distance >= 0.0 {
                    return;
                }
                let dome = smoothstep(0.0, 5.0, -distance);
                surface.height = surface.height * 0.25
                    + thickness * (0.3 + 0.9 * dome)
                    + 0.5 * thickness * dome * ripple.fractal(p[0] / 9.0, p[1] / 9.0, 2);
                surface.albedo = blend(scale(surface.albedo, 0.78), [0.74, 0.66, 0.42], 0.30 + 0.18 * dome);
                surface.roughness = [0.17; 2];
                surface.damaged = true;
            }
            Self::Crack { groove } => {
                let Some(groove) = groove.groove(p) else { return };
                let open = smoothstep(0.05, 0.5, groove.depth);
                surface.albedo = blend(surface.albedo, INNER, 0.9 * open);
                surface.height += 0.3 * groove.burr - 3.0 * open;
                surface.roughness = surface.roughness.map(|roughness| roughness + 0.6 * open);
                surface.damaged = true;
            }
        }
    }
}
