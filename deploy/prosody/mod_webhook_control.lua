-- Ends rooms and removes people when the live-session service asks for it: a JSON document by POST to /webhook-control of
-- Prosody's HTTP server, signed as https://www.standardwebhooks.com says, under a secret of its own.
--
-- mod_webhook loads it on its host, where `webhook_control_secret` is set. The address: docs/PROVIDERS.md. Prosody 0.12 or later.
--
--     {"command": "end-room", "room": "matematik-5a"}
--     {"command": "remove-person", "room": "matematik-5a", "person_id": "student-1"}
--
-- 200 {"ended": true} or {"removed": <connections>}; 404 where there is no such room; 401 not signed; 409 signed too long ago, or
-- used before; 400 not understood. A removed person is kept out until the room is gone.

local base64 = require "util.encodings".base64;
local hashes = require "util.hashes";
local jid = require "util.jid";
local json = require "util.json";
local st = require "util.stanza";

local secret = module:get_option_string("webhook_control_secret", "");
if secret:match("^%s*$") then
	module:log("error", "webhook_control_secret must be set for %s", module.host);
	return;
end
secret = secret:match("^%s*(.-)%s*$");
-- As the specification writes keys, or any other text as it is.
local encoded_key = secret:match("^whsec_(.+)$");
local key = encoded_key and base64.decode(encoded_key) or secret;

-- Seconds that the clocks may differ.
local TOLERANCE = 300;
-- What people are told.
local ENDED, REMOVED = "The session has ended.", "The host has removed you from this session.";

-- What outlives a reload of this module.
local state = module.saved_state or {
	-- What was signed before may have been carried out before.
	started = os.time();
	-- When by id, for as long as the signature would be taken.
	used = {};
	-- { [main room's JID] = { [person's id] = true } }
	removed = {};
};

function module.save()
	return state;
end

-- Rooms and people -------------------------------------------------------------------------------------------------------

local own = module.host;
local is_component = module:get_host_type() == "component";
local components = is_component and { own }
	or module:get_option_array("webhook_components", { "conference." .. own, "muc." .. own });

local function room_of(room_jid)
	local host = prosody.hosts[jid.host(room_jid)];
	local muc = host and host.modules and host.modules.muc;
	return muc and muc.get_room_from_jid(room_jid);
end

local function find_room(node)
	for _, host in ipairs(components) do
		local room = room_of(node .. "@" .. host);
		if room then return room; end
	end
end

-- A room and its breakouts, as mod_muc_breakout_rooms notes them down; the room comes last.
local function with_breakouts(room)
	local rooms = {};
	for breakout_jid in pairs(room._data and room._data.breakout_rooms or {}) do
		table.insert(rooms, room_of(breakout_jid));
	end
	table.insert(rooms, room);
	return rooms;
end

local function person_of(session)
	local user = session and session.jitsi_meet_context_user;
	local id = type(user) == "table" and user.id;
	if type(id) == "number" then return ("%.14g"):format(id); end
	return type(id) == "string" and id or nil;
end

-- Who was removed does not come back, neither into the room nor into its breakouts.
local function keep_out(event)
	local person = next(state.removed) and person_of(event.origin);
	if not person then return; end
	for main_jid, people in pairs(state.removed) do
		local main = people[person] and room_of(main_jid);
		local breakouts = main and main._data and main._data.breakout_rooms;
		if main_jid == event.room.jid and people[person] or breakouts and breakouts[event.room.jid] then
			event.origin.send(st.error_reply(event.stanza, "auth", "forbidden", REMOVED));
			return true;
		end
	end
end

local attached = {};
local function attach(host)
	if attached[host] then return; end
	attached[host] = true;
	-- Before anything lets them in or into the lobby.
	module:context(host):hook("muc-occupant-pre-join", keep_out, 200);
	module:context(host):hook("muc-room-destroyed", function (event) state.removed[event.room.jid] = nil; end);
end

local function look()
	for host, found in pairs(prosody.hosts) do
		-- Breakouts have a component of their own.
		if found.modules and found.modules.muc then attach(host); end
	end
end
look();
module:hook_global("host-activated", look);
module:hook_global("server-started", look);

-- Commands ---------------------------------------------------------------------------------------------------------------

local commands = {};

commands["end-room"] = function (room)
	for _, each in ipairs(with_breakouts(room)) do each:destroy(nil, ENDED); end
	return { ended = true };
end

commands["remove-person"] = function (room, person)
	state.removed[room.jid] = state.removed[room.jid] or {};
	state.removed[room.jid][person] = true;
	local nicks = {};
	local rooms = with_breakouts(room);
	for index, each in ipairs(rooms) do
		nicks[index] = {};
		for nick, occupant in each:each_occupant() do
			if person_of(prosody.full_sessions[occupant.jid]) == person then table.insert(nicks[index], nick); end
		end
	end
	local removed = 0;
	for index, each in ipairs(rooms) do
		for _, nick in ipairs(nicks[index]) do
			if each:set_role(true, nick, "none", REMOVED) then removed = removed + 1; end
		end
	end
	return { removed = removed };
end

-- Requests ---------------------------------------------------------------------------------------------------------------

-- The status that refuses a request; nothing for one that is signed, fresh and new.
local function refusal(request)
	local headers = request.headers;
	local id, sent, signatures = headers.webhook_id, headers.webhook_timestamp, headers.webhook_signature;
	if not (id and sent and signatures) then return 401; end
	local expected = base64.encode(hashes.hmac_sha256(key, id .. "." .. sent .. "." .. (request.body or "")));
	local fits = false;
	for signature in signatures:gmatch("v1,(%S+)") do
		-- In a time that does not tell how much of it is right.
		fits = hashes.equals(signature, expected) or fits;
	end
	if not fits then return 401; end
	local now, at = os.time(), tonumber(sent);
	if not at or math.abs(now - at) > TOLERANCE or at < state.started or state.used[id] then return 409; end
	for other, used in pairs(state.used) do
		if now - used > 2 * TOLERANCE then state.used[other] = nil; end
	end
	state.used[id] = now;
end

local function answer(response, status, document)
	response.status_code = status;
	response.headers.content_type = "application/json";
	return response:send(json.encode(document));
end

local function handle(event)
	local request, response = event.request, event.response;
	local refused = refusal(request);
	if refused then return answer(response, refused, { error = "the signature is wrong, out of time, or used before" }); end
	local body = json.decode(request.body);
	local command = type(body) == "table" and commands[body.command];
	local is_whole = command and type(body.room) == "string"
		and (body.command ~= "remove-person" or type(body.person_id) == "string");
	if not is_whole then return answer(response, 400, { error = "no command that is known here" }); end
	local room = find_room(body.room);
	if not room then return answer(response, 404, { error = "there is no such room" }); end
	module:log("info", "%s, as asked for: %s", body.command, room.jid);
	return answer(response, 200, command(room, body.person_id));
end

module:depends("http");
module:provides("http", {
	name = "webhook-control";
	default_path = "/webhook-control";
	route = { ["POST"] = handle, ["POST /"] = handle };
});
