//! A DHCP client for uplinks without a static address.
