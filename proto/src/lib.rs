//! The contracts of mlplat as Rust types: messages, gRPC clients and servers, generated from the `.proto` files beside this
//! crate. Written by hand are only this list, and what both sides must agree on: the [`rules`] for keys and names, those for [paths](artifact_path), and the
//! names that are [made](run_name::made_name) for runs.
#![allow(
    missing_docs,
    clippy::doc_lazy_continuation,
    clippy::large_enum_variant,
    reason = "generated code"
)]

pub mod artifact_path;
pub mod rules;
pub mod run_name;

/// The descriptors of all contracts, for server reflection and for tests that walk every RPC.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The domain in `google.rpc.ErrorInfo` of every error that mlplat returns.
pub const ERROR_DOMAIN: &str = "mlplat";

macro_rules! package {
    ($name:ident) => {
        pub mod $name {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/mlplat.",
                    stringify!($name),
                    ".v1.rs"
                ));
            }
        }
    };
}

package!(admin);
package!(catalogue);
package!(common);
package!(features);
package!(lineage);
package!(tracking);
