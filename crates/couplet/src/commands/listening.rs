//! Where a command's server listens.

use std::net::SocketAddr;

use clap::Args;
use couplet_serve::{Listening, listen};

use crate::printing;

/// The default of `--listen` and `--page`.
pub(crate) const ADDRESS: &str = "127.0.0.1:7860";

#[derive(Debug, Args)]
pub(crate) struct ListenArguments {
    /// Address and port to listen on; port 0 is any that is free. Whoever reaches the address can use the server
    #[arg(long, value_name = "ADDRESS", default_value = ADDRESS)]
    listen: SocketAddr,
}

impl ListenArguments {
    pub fn open(&self) -> anyhow::Result<Listening> {
        open(self.listen)
    }
}

/// Takes the address, and warns where others can reach it.
pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Listening> {
    let listening = listen(address)?;
    if !address.ip().is_loopback() {
        printing::warn(&format!(
            "whoever reaches {} can use this server: it asks for no password; for yourself, listen on {ADDRESS} and \
             forward the port (ssh -L 7860:{ADDRESS} HOST)",
            listening.address()
        ));
    }
    Ok(listening)
}

/// The address for a browser.
pub(crate) fn url(listening: &Listening) -> String {
    let address = listening.address();
    if address.ip().is_unspecified() {
        format!("http://localhost:{}", address.port())
    } else {
        format!("http://{address}")
    }
}
