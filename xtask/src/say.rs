//! Printing that goes on where nobody listens any more: `cargo xtask … | head` must not end a run of hours.

/// As `println!`.
macro_rules! outln {
    ($($arguments:tt)*) => {
        drop(std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($arguments)*))))
    };
}

/// As `eprintln!`.
macro_rules! errln {
    ($($arguments:tt)*) => {
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($arguments)*))))
    };
}
