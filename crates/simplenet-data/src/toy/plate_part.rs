//! Electronic parts of `plate` and the solder that holds them.

use super::lettering::Lettering;
use super::photograph::Surface;
use super::random::Noise;
use super::shape::{Point, along_across, blend, inside, length, rounded_box, scale, smoothstep, subtract};

/// Height of the bare board above the table.
pub(super) const BOARD_HEIGHT: f32 = 4.0;
const SOLDER: [f32; 3] = [0.70, 0.71, 0.72];
const EPOXY: [f32; 3] = [0.022, 0.023, 0.026];

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Package {
    /// Black body, two end caps.
    Resistor,
    /// Tan body, two end caps.
    Capacitor,
    /// Upright aluminium can.
    Can,
    /// Sixteen legs.
    Chip,
}

#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) package: Package,
    pub(super) centre: Point,
    /// Direction from its left end to its right end.
    pub(super) axis: Point,
    pub(super) present: bool,
}

impl Part {
    pub(super) const fn new(package: Package, x: f32, y: f32, axis: Point) -> Self {
        Self {
            package,
            centre: [x, y],
            axis,
            present: true,
        }
    }

    /// Nothing of the part or its solder lies further than this from its middle, in x or in y.
    pub(super) fn reach(&self) -> f32 {
        match self.package {
            Package::Resistor | Package::Capacitor => 12.0,
            Package::Can => 14.0,
            Package::Chip => 38.0,
        }
    }

    /// The pads of the footprint; a fillet climbs the part where there is one.
    pub(super) fn solder(&self, q: Point, present: bool, surface: &mut Surface) {
        let local = along_across(subtract(q, self.centre), self.axis);
        let reach = length(local);
        let (pad, rise) = match self.package {
            Package::Resistor | Package::Capacitor if reach < 16.0 => {
                let pad = rounded_box([local[0].abs() - 7.4, local[1]], [3.2, 3.9], 1.0);
                (
                    pad,
                    if present {
                        2.6 * smoothstep(10.6, 6.4, local[0].abs())
                    } else {
                        0.7 * inside(pad + 1.5, 3.0)
                    },
                )
            }
            Package::Chip if reach < 45.0 => {
                let pitch = ((local[0] + 28.0) / 8.0).round().clamp(0.0, 7.0) * 8.0 - 28.0;
                (
                    rounded_box([local[0] - pitch, local[1].abs() - 20.5], [1.9, 4.2], 0.6),
                    0.3,
                )
            }
            _ => return,
        };
        if pad < 0.0 {
            *surface = Surface::metal(BOARD_HEIGHT + 0.4 + rise, SOLDER, 0.33);
        }
    }

    /// Draws the part with `print` on it if it is a chip; false beside it.
    pub(super) fn mount(&self, q: Point, grit: Noise, print: &Lettering, surface: &mut Surface) -> bool {
        let local = along_across(subtract(q, self.centre), self.axis);
        let [x, y] = local;
        let grain = || grit.at(q[0] / 1.2, q[1] / 1.2);
        match self.package {
            Package::Resistor | Package::Capacitor => {
                let body = rounded_box(local, [8.0, 3.7], 0.8);
                if body > 0.0 {
                    return false;
                }
                let top = BOARD_HEIGHT + 4.0 - 1.4 * (1.0 + body / 1.0).max(0.0);
                let cap = x.abs() > 5.6;
                *surface = match (cap, self.package) {
                    (true, _) => Surface::metal(top + 0.2, SOLDER, 0.38),
                    (_, Package::Capacitor) => {
                        Surface::matte(top + 0.5, scale([0.42, 0.29, 0.17], 1.0 + 0.08 * grain()), 0.5)
                    }
                    _ => {
                        // Three strokes of marking, too small to read.
                        let stroke = (x / 2.6).fract().abs() < 0.45 && x.abs() < 4.0 && y.abs() < 1.6;
                        let print = if stroke { [0.55, 0.55, 0.55] } else { scale(EPOXY, 1.3) };
                        Surface::matte(top, print, 0.4)
                    }
                };
                true
            }
            Package::Can => {
                let radius = length(local);
                if radius > 13.5 {
                    return false;
                }
                let top = BOARD_HEIGHT + 13.0
                    - 2.2 * smoothstep(10.8, 13.5, radius)
                    - 0.5 * inside((radius - 10.2).abs() - 0.6, 1.0);
                // The black segment marks the minus pole.
                let minus = x < -5.5 && radius < 10.0;
                *surface = if minus {
                    Surface::matte(top, scale(EPOXY, 1.6), 0.5)
                } else {
                    Surface::metal(top + 0.03 * grain(), [0.74, 0.74, 0.75], 0.36)
                };
                true
            }
            Package::Chip => {
                let body = rounded_box(local, [32.0, 16.5], 1.2);
                if body < 0.0 {
                    let slope = (1.0 + body / 1.6).max(0.0);
                    let dot = length([x + 27.0, y - 11.0]) < 2.0;
                    let top = BOARD_HEIGHT + 6.0 - 2.2 * slope + 0.06 * grain() - if dot { 0.5 } else { 0.0 };
                    let printed = 0.75 * print.ink(local);
                    *surface = Surface::matte(
                        top,
                        blend(scale(EPOXY, 1.0 + 0.2 * grain()), [0.42, 0.42, 0.40], printed),
                        0.42,
                    );
                    return true;
                }
                let pitch = ((x + 28.0) / 8.0).round().clamp(0.0, 7.0) * 8.0 - 28.0;
                let leg = rounded_box([x - pitch, y.abs() - 19.0], [1.2, 4.0], 0.3);
                if leg > 0.0 {
                    return false;
                }
                let foot = smoothstep(22.5, 16.5, y.abs());
                *surface = Surface::metal(BOARD_HEIGHT + 0.8 + 3.4 * foot, SOLDER, 0.3);
                true
            }
        }
    }
}
