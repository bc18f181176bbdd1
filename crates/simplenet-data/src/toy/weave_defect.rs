//! What goes wrong with the cloth of `weave`.

use super::Damage;
use super::photograph::Surface;
use super::random::{Noise, Random, floor};
use super::shape::{Blob, Point, blend, inside, length, path_distance, scale, tilt};
use super::weave::{CATEGORY, Cloth, PITCH, System, Yarn};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Untouched,
    /// Crosses a gap: no longer held up or down.
    Slack,
    Gone,
}

pub(super) enum Defect {
    Hole {
        outline: Blob,
        fray: Noise,
    },
    Stain {
        outline: Blob,
        strength: f32,
        tint: [f32; 3],
    },
    MissingYarn {
        system: System,
        index: i32,
        from: f32,
        to: f32,
    },
    ForeignThread {
        path: Vec<Point>,
        radius: f32,
        colour: [f32; 3],
        fibre: Noise,
    },
}

impl Defect {
    pub(super) fn new(damage: &Damage, cloth: &Cloth) -> Self {
        let mut random = damage.random.clone();
        let severity = damage.severity;
        let centre = [random.between(60.0, 196.0), random.between(60.0, 196.0)];
        match CATEGORY.defects[damage.kind] {
            "hole" => {
                let outline = Blob::new(centre, 5.5 + 15.0 * severity, 0.35, &mut random);
                Self::Hole {
                    outline,
                    fray: random.noise(),
                }
            }
            "stain" => {
                let outline = Blob::new(centre, 10.0 + 24.0 * severity, 0.55, &mut random);
                let tint = if random.below(2) == 0 {
                    [0.20, 0.13, 0.05]
                } else {
                    [0.04, 0.04, 0.05]
                };
                Self::Stain {
                    outline,
                    strength: 0.34 + 0.42 * severity,
                    tint,
                }
            }
            "missing_yarn" => {
                let [u, v] = cloth.lattice(centre);
                let half = (16.0 + 75.0 * severity) / PITCH;
                let (system, index, middle) = match random.below(2) {
                    0 => (System::Warp, floor(u), v),
                    _ => (System::Weft, floor(v), u),
                };
                Self::MissingYarn {
                    system,
                    index,
                    from: middle - half,
                    to: middle + half,
                }
            }
            _ => {
                let path = curl(centre, 30.0 + 95.0 * severity, &mut random);
                let colour = [[0.55, 0.10, 0.07], [0.03, 0.03, 0.03], [0.75, 0.73, 0.70]][random.below(3)];
                let radius = 1.1 + 0.9 * severity;
                Self::ForeignThread {
                    path,
                    radius,
                    colour,
                    fibre: random.noise(),
                }
            }
        }
    }

    pub(super) fn fate(&self, p: Point, yarn: &Yarn) -> Fate {
        match self {
            Self::Hole { outline, fray } => {
                let distance = outline.distance(p);
                let key = yarn.lane as f32 * 5.3;
                // Every yarn tears at its own place.
                let end = 4.5 * fray.at(key, 0.5) + 1.2 * fray.at(key, yarn.offset * 2.0);
                match distance {
                    _ if distance < end - 1.0 => Fate::Gone,
                    _ if distance < 1.0 => Fate::Slack,
                    _ => Fate::Untouched,
                }
            }
            Self::MissingYarn {
                system,
                index,
                from,
                to,
            } => {
                let (along, lane) = match yarn.system == *system {
                    true if yarn.index == *index => (yarn.along, 0.0),
                    false => (yarn.index as f32 + 0.5, yarn.along - *index as f32 - 0.5),
                    true => return Fate::Untouched,
                };
                match () {
                    () if along < *from || along > *to || lane.abs() > 0.5 => Fate::Untouched,
                    () if yarn.system == *system => Fate::Gone,
                    () => Fate::Slack,
                }
            }
            Self::Stain { .. } | Self::ForeignThread { .. } => Fate::Untouched,
        }
    }

    pub(super) fn lay_over(&self, p: Point, surface: &mut Surface) {
        match self {
            Self::Stain {
                outline,
                strength,
                tint,
            } => {
                let distance = outline.distance(p);
                // A drying liquid leaves its edge darker than its middle.
                let rim = 1.0 + 0.35 * (1.0 - (distance + 2.5).abs() / 4.0).max(0.0);
                let cover = inside(distance, 3.5) * (strength * rim).min(0.95);
                surface.albedo = blend(surface.albedo, *tint, cover);
                surface.damaged |= distance < 0.5;
            }
            Self::ForeignThread {
                path,
                radius,
                colour,
                fibre,
            } => {
                let near = path_distance(p, path.windows(2).map(|ends| [ends[0], ends[1]]), *radius);
                if near < *radius {
                    let round = (1.0 - (near / radius) * (near / radius)).sqrt();
                    surface.height = 4.6 + 1.3 * radius * round;
                    surface.albedo = scale(*colour, 1.0 + 0.25 * fibre.at(p[0] * 0.8, p[1] * 0.8));
                    surface.damaged = true;
                }
            }
            Self::Hole { .. } | Self::MissingYarn { .. } => {}
        }
    }
}

/// A thread as it falls: a path of short steps whose heading drifts.
fn curl(centre: Point, total: f32, random: &mut Random) -> Vec<Point> {
    const STEPS: usize = 24;
    let step = total / STEPS as f32;
    // No loop is narrower than about a dozen pixels.
    let tightest = (step / 12.0).min(0.34);
    let mut heading = random.direction();
    let mut turn = random.around(tightest);
    let mut path = vec![[0.0, 0.0]];
    for _ in 0..STEPS {
        turn = (turn + random.around(0.4 * tightest)).clamp(-tightest, tightest);
        let [c, s] = tilt(turn);
        heading = [heading[0] * c - heading[1] * s, heading[0] * s + heading[1] * c];
        let norm = length(heading);
        heading = [heading[0] / norm, heading[1] / norm];
        let [x, y] = path[path.len() - 1];
        path.push([x + heading[0] * step, y + heading[1] * step]);
    }
    // Centred on its middle, so that it stays inside the picture.
    let [mx, my] = path[STEPS / 2];
    path.iter()
        .map(|[x, y]| [x - mx + centre[0], y - my + centre[1]])
        .collect()
}
