-- What a self-hosted Jitsi's Prosody needs to know of the live-session service. Merge it into the configuration of your
-- domain (Debian: /etc/prosody/conf.avail/<domain>.cfg.lua); meet.example.org stands for your JITSI_DOMAIN.

VirtualHost "meet.example.org"
    -- Join tokens: JITSI_APP_ID and JITSI_JWT_SECRET of api and worker, the same values here.
    authentication = "token"
    app_id = "edutech"
    app_secret = "the value of JITSI_JWT_SECRET"
    allow_empty_token = false
    asap_accepted_issuers = { "edutech" }
    -- JITSI_AUDIENCE
    asap_accepted_audiences = { "jitsi" }
    -- true only with JITSI_XMPP_DOMAIN set to this host's name
    enable_domain_verification = false

Component "conference.meet.example.org" "muc"
    modules_enabled = {
        -- The room of the token is the only one that it opens.
        "token_verification";
        -- Who hosts is moderator by the token, not by coming first. In jicofo: enable-auto-owner = false.
        "token_affiliation";
    }

-- Events: who joined and left. The module is jitsi-contrib's event_sync.
Component "esync.meet.example.org" "event_sync_component"
    muc_component = "conference.meet.example.org"
    breakout_component = "breakout.meet.example.org"
    -- The address of the api; "/events/…" is added to it.
    api_prefix = "https://api.example.org/api/v1/live-sessions/webhooks/jitsi"
    api_headers = {
        -- JITSI_WEBHOOK_SECRET
        ["Authorization"] = "Bearer the value of JITSI_WEBHOOK_SECRET";
    }
    api_retry_count = 5
    api_retry_delay = 2
