//! A guest or server with a real TCP/IP stack (smoltcp) on a port of the world.
