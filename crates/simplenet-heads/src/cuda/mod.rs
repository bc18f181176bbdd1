//! A head on a GPU: [`crate::train`] with the bank, the head and every buffer in device memory.
//!
//! A [`DeviceBank`] holds the features of an image set on a GPU. [`train`] teaches a head on one, with the same random
//! numbers as the CPU, and shows a [`DeviceHead`] after every epoch, which scores another bank. Between the order of an
//! epoch's images going up and its totals coming down the host does nothing but start launch lists.

mod bank;
mod head;
mod products;
mod step;
mod train;

pub use self::bank::DeviceBank;
pub use self::head::DeviceHead;
pub use self::products::Product;
pub use self::step::DeviceStep;
pub use self::train::train;
pub use simplenet_kernels::cuda::Products;
