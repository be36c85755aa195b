//! The crate as a process uses it: real servers on port 0, real clients.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod inference;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod web;
