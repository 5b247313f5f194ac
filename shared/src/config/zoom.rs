use clap::Args;
use url::Url;

/// Where Zoom is. Others than Zoom's own addresses are for a stand-in.
#[derive(Debug, Clone, Args)]
pub struct ZoomConfig {
    /// Zoom's API.
    #[arg(long, env = "ZOOM_API_URL", default_value = "https://api.zoom.us/v2")]
    pub zoom_api_url: Url,

    /// Where Zoom gives out tokens of server-to-server OAuth apps.
    #[arg(long, env = "ZOOM_OAUTH_URL", default_value = "https://zoom.us/oauth/token")]
    pub zoom_oauth_url: Url,
}
