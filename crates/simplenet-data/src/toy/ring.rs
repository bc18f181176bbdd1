//! `ring`: a turned steel flange with six drilled holes, lying on a rubber mat.

use super::photograph::{Canvas, Light, SIDE, Surface};
use super::random::{Drift, Noise, Random, floor};
use super::shape::{Blob, Point, Scratch, blend, inside, length, scale, smoothstep, subtract, tilt};
use super::{Category, CategoryKind, Damage};

pub(super) const CATEGORY: Category = Category {
    name: "ring",
    kind: CategoryKind::Object,
    description: "turned steel flange with six holes",
    defects: &["scratch", "chip", "rust", "undrilled"],
    paint,
};

const INNER_RADIUS: f32 = 37.0;
const HUB_RADIUS: f32 = 51.0;
const HOLE_CIRCLE: f32 = 68.0;
const GROOVE_RADIUS: f32 = 84.0;
const OUTER_RADIUS: f32 = 93.0;
const HOLE_RADIUS: f32 = 6.5;
const COUNTERSINK_RADIUS: f32 = 9.0;
const FLANGE_HEIGHT: f32 = 8.0;
const HUB_HEIGHT: f32 = 11.0;
const STEEL: [f32; 3] = [0.64, 0.625, 0.60];
const RUBBER: [f32; 3] = [0.060, 0.078, 0.098];

fn paint(random: &Random, damage: Option<&Damage>) -> (Canvas, Light) {
    let flange = Flange::new(&mut random.stream("flange"));
    let defect = damage.map(|damage| Defect::new(damage, &flange));
    let canvas = Canvas::paint(|p| flange.surface(p, defect.as_ref()));
    (
        canvas,
        Light::vary([-260.0, -330.0, 520.0], 0.62, 0.26, &mut random.stream("light")),
    )
}

struct Flange {
    centre: Point,
    holes: [Point; 6],
    lathe: Noise,
    worn: Drift,
    patch: Drift,
    smudge: Noise,
    grit: Noise,
}

impl Flange {
    fn new(random: &mut Random) -> Self {
        let [worn, patch] = [random.noise(), random.noise()];
        let centre = [
            0.5 * SIDE as f32 + random.around(5.0),
            0.5 * SIDE as f32 + random.around(5.0),
        ];
        let [c, s] = tilt(random.around(0.09));
        // Six directions sixty degrees apart, turned by the same small angle.
        let high = 0.75_f32.sqrt();
        let spokes = [
            [1.0, 0.0],
            [0.5, high],
            [-0.5, high],
            [-1.0, 0.0],
            [-0.5, -high],
            [0.5, -high],
        ];
        let holes = spokes.map(|[x, y]: Point| {
            [
                centre[0] + HOLE_CIRCLE * (x * c - y * s),
                centre[1] + HOLE_CIRCLE * (x * s + y * c),
            ]
        });
        Self {
            centre,
            holes,
            lathe: random.noise(),
            worn: Drift::new(|x, y| worn.fractal(x / 26.0, y / 26.0, 2)),
            patch: Drift::new(|x, y| patch.fractal(x / 60.0, y / 60.0, 3)),
            smudge: random.noise(),
            grit: random.noise(),
        }
    }

    fn surface(&self, p: Point, defect: Option<&Defect>) -> Surface {
        let body = self.body(p, None);
        let Some(defect) = defect else {
            return body.unwrap_or_else(|| self.rubber(p));
        };
        let altered = self.body(p, Some(defect));
        // Metal missing where it was, or there where it should not be.
        let displaced = match (&body, &altered) {
            (Some(before), Some(after)) => (before.height - after.height).abs() > 0.15,
            (before, after) => before.is_some() != after.is_some(),
        };
        let on_body = altered.is_some();
        let mut surface = altered.unwrap_or_else(|| self.rubber(p));
        surface.damaged = displaced;
        if on_body {
            defect.mark(p, &mut surface);
        }
        surface
    }

    fn rubber(&self, p: Point) -> Surface {
        let grit = 0.7 * self.grit.at(p[0] / 1.3, p[1] / 1.3);
        let patch = self.patch.at(p);
        // Moulded ribs, as on a work mat.
        let rib = (p[1] / 10.0 - floor(p[1] / 10.0) as f32 - 0.5).abs();
        let height = 0.45 * grit + 0.9 * smoothstep(0.10, 0.22, rib);
        Surface::matte(height, scale(RUBBER, 1.0 + 0.22 * patch + 0.35 * grit), 0.55)
    }

    /// The turned profile; `None` where the table shows.
    fn body(&self, p: Point, defect: Option<&Defect>) -> Option<Surface> {
        let q = subtract(p, self.centre);
        let radius = length(q).max(1e-3);
        let mut margin = (radius - OUTER_RADIUS).max(INNER_RADIUS - radius);
        if let Some(Defect::Chip { outline, .. }) = defect {
            margin = margin.max(-outline.distance(p));
        }
        let mut sink: f32 = 0.0;
        for (index, hole) in self.holes.iter().enumerate() {
            let drilled = match defect {
                Some(Defect::Undrilled { hole, share }) if *hole == index => *share,
                _ => 1.0,
            };
            if drilled <= 0.0 {
                continue;
            }
            let from_hole = length(subtract(p, *hole));
            margin = margin.max(HOLE_RADIUS * drilled - from_hole);
            sink = sink.max(smoothstep(
                COUNTERSINK_RADIUS * drilled,
                HOLE_RADIUS * drilled,
                from_hole,
            ));
        }
        if margin >= 0.0 {
            return None;
        }

        let step = smoothstep(HUB_RADIUS + 1.2, HUB_RADIUS - 1.2, radius);
        let groove = inside((radius - GROOVE_RADIUS).abs() - 1.6, 1.2);
        let chamfer = (1.0 + margin / 3.0).max(0.0);
        // Feed marks of the lathe: fine circles, some deeper than others.
        let feed = self.lathe.along(radius * 1.9, 0) + 0.6 * self.lathe.along(radius * 0.55, 1);
        let height = FLANGE_HEIGHT + (HUB_HEIGHT - FLANGE_HEIGHT) * step - 1.3 * groove - 2.2 * chamfer - 2.0 * sink;
        let worn = self.worn.at(p);
        let smudge = self.smudge.at(p[0] / 3.0, p[1] / 3.0);
        let tone = 1.0 + 0.05 * feed + 0.07 * worn + 0.03 * smudge - 0.15 * groove;
        let tangent = [-q[1] / radius, q[0] / radius];
        Some(Surface {
            tangent,
            roughness: [0.11 + 0.02 * worn, 0.42],
            ..Surface::metal(height + 0.05 * feed, scale(STEEL, tone), 0.3)
        })
    }
}

enum Defect {
    Scratch {
        groove: Scratch,
        depth: f32,
    },
    Chip {
        outline: Blob,
        fracture: Noise,
    },
    Rust {
        spots: Vec<Blob>,
        flake: Noise,
        strength: f32,
    },
    Undrilled {
        hole: usize,
        share: f32,
    },
}

impl Defect {
    fn new(damage: &Damage, flange: &Flange) -> Self {
        let mut random = damage.random.clone();
        let severity = damage.severity;
        let spoke = random.direction();
        let on_circle = |radius: f32| {
            [
                flange.centre[0] + radius * spoke[0],
                flange.centre[1] + radius * spoke[1],
            ]
        };
        match CATEGORY.defects[damage.kind] {
            "scratch" => {
                let [c, s] = tilt(random.around(0.9));
                // Across the lathe marks more than along them, where it would pass for one.
                let axis = [spoke[0] * c - spoke[1] * s, spoke[0] * s + spoke[1] * c];
                let groove = Scratch::new(
                    on_circle(66.0),
                    axis,
                    22.0 + 34.0 * severity,
                    1.6 + 1.6 * severity,
                    1.2,
                    &mut random,
                );
                Self::Scratch {
                    groove,
                    depth: 0.7 + 1.0 * severity,
                }
            }
            "chip" => {
                let edge = if random.below(3) == 0 {
                    INNER_RADIUS - 1.0
                } else {
                    OUTER_RADIUS + 1.0
                };
                let outline = Blob::new(on_circle(edge), 4.5 + 9.0 * severity, 0.35, &mut random);
                Self::Chip {
                    outline,
                    fracture: random.noise(),
                }
            }
            "rust" => {
                let centre = on_circle(random.between(58.0, 78.0));
                let radius = 5.0 + 10.0 * severity;
                let mut spots = vec![Blob::new(centre, radius, 0.65, &mut random)];
                for _ in 0..3 + (4.0 * severity) as usize {
                    let offset = [random.around(1.7 * radius), random.around(1.7 * radius)];
                    let small = radius * random.between(0.12, 0.35);
                    spots.push(Blob::new(
                        [centre[0] + offset[0], centre[1] + offset[1]],
                        small,
                        0.5,
                        &mut random,
                    ));
                }
                Self::Rust {
                    spots,
                    flake: random.noise(),
                    strength: 0.60 + 0.35 * severity,
                }
            }
            _ => {
                // From a pilot hole, through hardly started, to none.
                let share = if severity > 0.5 { 0.0 } else { 0.70 - 0.6 * severity };
                Self::Undrilled {
                    hole: random.below(6),
                    share,
                }
            }
        }
    }

    /// What the defect does to metal that is still there.
    fn mark(&self, p: Point, surface: &mut Surface) {
        match self {
            Self::Scratch { groove, depth } => {
                let Some(groove) = groove.groove(p) else { return };
                surface.height += depth * (0.5 * groove.burr - groove.depth);
                surface.roughness = [0.30, 0.30];
                surface.albedo = scale(surface.albedo, 1.0 + 0.30 * groove.burr - 0.35 * groove.depth);
                surface.damaged = true;
            }
            Self::Chip { outline, fracture } => {
                // The broken edge is rough and slopes down to the break.
                let beyond = outline.distance(p);
                if beyond < 2.6 {
                    let rough = fracture.fractal(p[0] / 2.4, p[1] / 2.4, 2);
                    surface.height -= (2.6 - beyond) * 1.1 + 0.7 * rough;
                    surface.albedo = scale(surface.albedo, 0.72 + 0.25 * rough);
                    surface.roughness = [0.5; 2];
                    surface.damaged = true;
                }
            }
            Self::Rust { spots, flake, strength } => {
                let distance = spots.iter().map(|spot| spot.distance(p)).fold(f32::MAX, f32::min);
                if distance >= 1.0 {
                    return;
                }
                let crust = flake.fractal(p[0] / 2.6, p[1] / 2.6, 3);
                let cover = inside(distance, 2.0) * (strength + 0.25 * crust).clamp(0.0, 1.0);
                let orange = blend(
                    [0.085, 0.025, 0.012],
                    [0.26, 0.085, 0.02],
                    (0.5 + crust).clamp(0.0, 1.0),
                );
                surface.albedo = blend(surface.albedo, orange, cover);
                surface.metal *= 1.0 - cover;
                surface.roughness = surface.roughness.map(|roughness| roughness + (0.6 - roughness) * cover);
                surface.height += cover * 0.7 * crust;
                surface.damaged |= distance < 0.5;
            }
            Self::Undrilled { .. } => {}
        }
    }
}
