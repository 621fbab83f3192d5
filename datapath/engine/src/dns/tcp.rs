//! DNS over TCP towards guests.
