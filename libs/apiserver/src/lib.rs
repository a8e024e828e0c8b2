// SPDX-License-Identifier: Apache-2.0

//! A Kubernetes-style API server in one process and one file.
//!
//! It serves custom resources (from CustomResourceDefinitions) and a few built-in kinds (Namespace, Secret, ConfigMap, Event, Lease, ServiceAccount,
//! CustomResourceDefinition) with the semantics that controllers rely on: resource versions and optimistic concurrency, watches that lose and double nothing,
//! server-side apply, finalizers, garbage collection, schema validation. In process it is a [`tower::Service`] under [`kube::Client`]; on TCP it speaks TLS with
//! bearer tokens, so `kubectl` and programs in other languages use it unchanged.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = apiserver::Server::open(apiserver::Options::new("state/api.redb")).await?;
//! let client = server.client("default");
//! // ... use the client as with any cluster ...
//! server.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! The crate knows nothing of what is stored in it. It does not schedule, stores no RBAC objects (rules are given to it: [`access`]), has no admission webhooks, and is one process: several machines want a
//! real Kubernetes.
//!
//! ```text
//! token --front--> URL --request--> handlers --admission (schema, apply, patch)--> store --log--> watch
//!                                                                       \--> gc
//! ```

pub mod access;
mod admission;
mod apply;
mod body;
mod discovery;
mod front;
mod gc;
mod go;
mod handlers;
mod inner;
mod json;
mod naming;
mod object;
mod openapi;
mod patch;
pub mod pki;
mod protobuf;
mod registry;
mod request;
mod reviews;
mod schema;
mod selector;
mod server;
mod status;
mod store;
mod strategic;
mod table;
mod tls;
mod tokens;
mod view;
mod watch;

pub use body::{BoxError, ResponseBody};
pub use server::{ApiService, InstallError, Options, Server};
pub use store::{OpenError, opens_a_store};
pub use tls::{ServeError, Tls};
