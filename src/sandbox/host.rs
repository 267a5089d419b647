//! No box: the guest runs as a plain process of the host. Only for those who ask for it; nothing is contained.
