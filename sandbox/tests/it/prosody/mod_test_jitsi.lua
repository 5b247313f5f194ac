-- What Jitsi's own modules do to sessions and rooms, as far as mod_webhook looks at it. For tests only: it believes anybody.

local formdecode = require "util.http".formdecode;
local jid = require "util.jid";

-- mod_auth_token: the user of the token; here of the query, `?user=<id>&name=<name>`.
module:hook_global("bosh-session", function (event)
	local query = formdecode(event.request.url.query or "");
	if query.user then
		event.session.jitsi_meet_context_user = { id = query.user, name = query.name };
	end
end);

-- When all components are there.
local function on(host, name, handler)
	module:hook_global("server-started", function ()
		module:context(host .. "." .. module.host):hook(name, handler);
	end);
end

-- mod_muc_meeting_id
on("conference", "muc-room-created", function (event)
	event.room._data.meetingId = "meeting-of-" .. jid.node(event.room.jid);
end);

-- mod_muc_breakout_rooms: here `<room>-group` is a breakout of `<room>`.
on("breakout", "muc-room-pre-create", function (event)
	local breakout = jid.bare(event.stanza.attr.to);
	local main_jid = breakout:gsub("%-group@breakout%.", "@conference.");
	local main = prosody.hosts["conference." .. module.host].modules.muc.get_room_from_jid(main_jid);
	if main then main._data.breakout_rooms = { [breakout] = "Group 1" }; end
end);
