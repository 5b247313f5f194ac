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
    -- Events: who joined and left. See README.md for where mod_webhook.lua has to be.
    modules_enabled = { "webhook" }
    webhook_url = "https://api.example.org/api/v1/live-sessions/webhooks/jitsi/"
    webhook_secret = "the value of JITSI_WEBHOOK_SECRET"
    -- The end of a session ends its room, and hosts remove people; needs mod_webhook_control.lua.
    webhook_control_secret = "the value of JITSI_CONTROL_SECRET"

Component "conference.meet.example.org" "muc"
    modules_enabled = {
        -- The room of the token is the only one that it opens.
        "token_verification";
        -- Who hosts is moderator by the token, not by coming first. In jicofo: enable-auto-owner = false.
        "token_affiliation";
    }

-- Events without our module: jitsi-contrib's event_sync. It loses what it could not send five times, or before a restart.
-- Component "esync.meet.example.org" "event_sync_component"
--     muc_component = "conference.meet.example.org"
--     breakout_component = "breakout.meet.example.org"
--     -- The address of the api; "/events/…" is added to it.
--     api_prefix = "https://api.example.org/api/v1/live-sessions/webhooks/jitsi"
--     api_headers = {
--         -- JITSI_WEBHOOK_SECRET
--         ["Authorization"] = "Bearer the value of JITSI_WEBHOOK_SECRET";
--     }
--     api_retry_count = 5
--     api_retry_delay = 2
