//! Measures virtual switches and NAT side by side, in private network namespaces and with its own traffic.

pub mod lab;
pub mod metric;
pub mod netns;
pub mod process;
pub mod report;
pub mod rounds;
pub mod sys;
pub mod target;
pub mod traffic;
pub mod user;
