-- Tells the live-session service who is in which room: rooms created and destroyed, people joined and left, each as a
-- JSON document by POST to `webhook_url`.
--
-- Numbered, in order, one at a time, each repeated until it is taken; signed as https://www.standardwebhooks.com says.
-- The fields are those of jitsi-contrib's event_sync, and more: see docs/API.md, Webhooks.
--
-- Load it on the MUC component or on the VirtualHost beside it, not on both:
--     modules_enabled = { "webhook" }
--     webhook_url = "https://api.example.org/api/v1/live-sessions/webhooks/jitsi/"
--     webhook_secret = "the value of JITSI_WEBHOOK_SECRET"
-- More options, with their defaults: deploy/README.md. Prosody 0.12 or later.

local datamanager = require "util.datamanager";
local base64 = require "util.encodings".base64;
local hmac_sha256 = require "util.hashes".hmac_sha256;
local http = require "net.http";
local jid = require "util.jid";
local json = require "util.json";
local new_queue = require "util.queue".new;
local new_uuid = require "util.uuid".generate;
local now = require "util.time".now;

local url = module:get_option_string("webhook_url");
local secret = module:get_option_string("webhook_secret", "");
-- Seconds until an unanswered request is given up, and how many events wait at most.
local timeout = module:get_option_number("webhook_timeout", 20);
local limit = module:get_option_number("webhook_queue_limit", 10000);

local LONGEST_PAUSE = 60;
-- Answers that no repeat will change, because the event itself is refused. Whatever else is wrong (an address, a secret, a
-- clock, a server) somebody mends, so the event waits.
local REFUSED = { [400] = true, [413] = true, [415] = true, [422] = true };
-- The rooms with which jicofo tries out Prosody.
local HEALTH_CHECK = "__jicofo-health-check";

if not url or secret:match("^%s*$") then
	module:log("error", "webhook_url and webhook_secret must be set for %s: no events are sent", module.host);
	return;
end
secret = secret:match("^%s*(.-)%s*$");
-- As the specification writes keys, or any other text as it is.
local encoded_key = secret:match("^whsec_(.+)$");
local key = encoded_key and base64.decode(encoded_key) or secret;

-- What outlives a reload of this module.
local state = module.saved_state or {};
state.start_id = state.start_id or new_uuid();
state.sequence = state.sequence or 0;
state.dropped = state.dropped or 0;
state.time = state.time or 0;
-- By JID: { created_at, main (JID of the main room, of a breakout), occupants = { [real JID] = occupant } }.
state.rooms = state.rooms or {};

function module.save()
	return state;
end

-- The queue --------------------------------------------------------------------------------------------------------------

-- What waits; the one being sent is `head`. When it is full, the oldest goes: the newest tell most of what is.
local waiting = new_queue(limit, true);
local head, request, pause;
local failures = 0;
-- Where events of the time before a restart lie. Not in the host's storage: a MUC component of Jitsi has that in memory, and a
-- host for anonymous people refuses to write.
local file = datamanager.getpath(nil, module.host, "webhook_queue", "json", true);
local count_dropped = module:measure("dropped", "counter");

local function drop()
	state.dropped = state.dropped + 1;
	count_dropped(1);
end

local deliver;

local function settle(code, answer, response)
	request = nil;
	if code >= 200 and code < 300 then
		if failures > 0 then
			module:log("info", "%s takes events again", url);
		end
		head, failures = nil, 0;
		return deliver();
	elseif REFUSED[code] then
		module:log("error", "%s refused %s with %d, it is dropped: %s", url, head.id, code, tostring(answer):sub(1, 200));
		drop();
		head, failures = nil, 0;
		return deliver();
	end
	failures = failures + 1;
	local asked = response and response.headers and tonumber(response.headers["retry-after"]);
	local seconds = math.min(math.max(2 ^ math.min(failures - 1, 10), asked or 0), LONGEST_PAUSE);
	seconds = math.floor(seconds);
	module:log("warn", "%s does not take %s (%s %s), again in %d s, %d more wait",
		url, head.id, code, tostring(answer):sub(1, 200), seconds, waiting:count());
	pause = module:add_timer(seconds, function ()
		pause = nil;
		deliver();
	end);
end

function deliver()
	if request or pause then return; end
	head = head or waiting:pop();
	if not head then
		if state.stored then
			os.remove(file);
			state.stored = nil;
		end
		return;
	end
	-- Signed anew each time: the receiver refuses old signatures.
	local time = tostring(os.time());
	local signature = base64.encode(hmac_sha256(key, head.id .. "." .. time .. "." .. head.body));
	local this = {};
	request = this;
	local function done(...)
		-- Not when the time was over before.
		if request ~= this then return; end
		this.timer:stop();
		settle(...);
	end
	this.timer = module:add_timer(timeout, function ()
		if this.request then http.destroy_request(this.request); end
		if request == this then settle(0, "no answer in time"); end
	end);
	this.request = http.request(url, {
		method = "POST";
		headers = {
			["Content-Type"] = "application/json";
			["Webhook-Id"] = head.id;
			["Webhook-Timestamp"] = time;
			["Webhook-Signature"] = "v1," .. signature;
		};
		body = head.body;
	}, function (answer, code, response) done(code, answer, response); end);
end

local function enqueue(event)
	if waiting:count() >= limit then
		drop();
		if state.dropped % 1000 == 1 then
			module:log("error", "the queue is full: %d events are dropped so far", state.dropped);
		end
	end
	waiting:push(event);
	deliver();
end

-- Rooms and people -------------------------------------------------------------------------------------------------------

-- Seconds with milliseconds, never running backwards.
local function time()
	state.time = math.max(state.time, math.floor(now() * 1000) / 1000);
	return state.time;
end

local function tell(name, room_jid, fields)
	local room = state.rooms[room_jid];
	state.sequence = state.sequence + 1;
	local event = {
		id = state.start_id .. "-" .. state.sequence;
		start_id = state.start_id;
		sequence = state.sequence;
		dropped = state.dropped;
		event_name = name;
		room_jid = room.main or room_jid;
		room_name = jid.node(room.main or room_jid);
		meeting_id = room.meeting_id;
		is_breakout = room.main ~= nil;
		breakout_room_id = room.main and jid.node(room_jid);
	};
	for field, value in pairs(fields) do event[field] = value; end
	enqueue({ id = event.id, body = json.encode(event) });
end

local function rooms_of(host)
	local muc = prosody.hosts[host].modules and prosody.hosts[host].modules.muc;
	local rooms = {};
	if muc then
		for room in muc.live_rooms() do table.insert(rooms, room); end
	end
	return rooms;
end

-- The room to which a breakout belongs, as mod_muc_breakout_rooms notes it down.
local function main_of(room)
	for host in pairs(prosody.hosts) do
		for _, main in ipairs(rooms_of(host)) do
			local breakouts = main._data and main._data.breakout_rooms;
			if breakouts and breakouts[room.jid] then return main; end
		end
	end
end

-- Notes a room down, and tells of it when it is new. Its id may change until mod_muc_meeting_id and jicofo agree.
local function note(room)
	local known = state.rooms[room.jid];
	local new = not known;
	if new then
		local main = main_of(room);
		known = { created_at = time(), main = main and main.jid, occupants = {} };
		known.main_room_id = main and main._data.meetingId;
		state.rooms[room.jid] = known;
	end
	known.meeting_id = known.main_room_id or not known.main and room._data and room._data.meetingId or nil;
	if new then
		tell("muc-room-created", room.jid, { created_at = known.created_at });
	end
	return known;
end

local function forget(room_jid)
	local at = time();
	tell("muc-room-destroyed", room_jid, { created_at = state.rooms[room_jid].created_at, destroyed_at = at });
	state.rooms[room_jid] = nil;
end

local function left(room_jid, occupant_jid)
	local occupants = state.rooms[room_jid].occupants;
	local occupant = occupants[occupant_jid];
	if occupant then
		occupant.left_at = time();
		occupants[occupant_jid] = nil;
		tell("muc-occupant-left", room_jid, { occupant = occupant });
	end
end

-- A text or a number of the token as text; it may hold any JSON.
local function text(value)
	if type(value) == "number" then return ("%.14g"):format(value); end
	return type(value) == "string" and value ~= "" and value or nil;
end

local function joined(room, occupant, session, stanza)
	local user = session and session.jitsi_meet_context_user;
	user = type(user) == "table" and user or {};
	note(room);
	local at = time();
	local person = {
		occupant_jid = occupant.jid;
		id = text(user.id);
		name = text(user.name) or stanza and text(stanza:get_child_text("nick", "http://jabber.org/protocol/nick"));
		joined_at = at;
	};
	state.rooms[room.jid].occupants[occupant.jid] = person;
	tell("muc-occupant-joined", room.jid, { occupant = person });
end

-- What happens on one MUC component --------------------------------------------------------------------------------------

local function is_test(room)
	return jid.node(room.jid):sub(1, #HEALTH_CHECK) == HEALTH_CHECK;
end

-- Whether it is one of Jitsi's own machines: focus and other administrators, recorders, transcribers.
local function machines_of(host)
	local context = module:context(host);
	local admins = context:get_option_inherited_set("admins", {});
	local prefixes = context:get_option_inherited_set("recorder_prefixes",
			{ "recorder@recorder.", "jibria@recorder.", "jibrib@recorder." })
		+ context:get_option_inherited_set("transcriber_prefixes", { "transcriber@recorder." });
	return function (occupant)
		if jid.resource(occupant.nick) == "focus" or jid.node(occupant.jid) == "focus" then return true; end
		if admins:contains(jid.bare(occupant.jid)) then return true; end
		for prefix in prefixes do
			if occupant.jid:sub(1, #prefix) == prefix then return true; end
		end
		return false;
	end;
end

-- Who reports on which component: two of us would tell everything twice.
local claims = module:shared("/*/webhook/claims");
local attached = {};

local function attach(host)
	if claims[host] and claims[host] ~= module.host then
		module:log("error", "events of %s are sent by the module on %s already", host, claims[host]);
		return;
	end
	claims[host], attached[host] = module.host, true;
	local is_machine = machines_of(host);
	local component = module:context(host);

	-- The first of all joins before the room counts as created.
	component:hook("muc-occupant-joined", function (event)
		if is_test(event.room) or is_machine(event.occupant) then return; end
		joined(event.room, event.occupant, event.origin or prosody.full_sessions[event.occupant.jid], event.stanza);
	end);
	-- After mod_muc_meeting_id, at 0, has given the room its id.
	component:hook("muc-room-created", function (event)
		if not is_test(event.room) then note(event.room); end
	end, -10);
	-- Before mod_muc, at -1, destroys a room that is empty.
	component:hook("muc-occupant-left", function (event)
		if not state.rooms[event.room.jid] then return; end
		note(event.room);
		left(event.room.jid, event.occupant.jid);
	end);
	component:hook("muc-room-destroyed", function (event)
		if state.rooms[event.room.jid] then forget(event.room.jid); end
	end);

	-- Who is there already, when the module is loaded into a server that runs.
	for _, room in ipairs(rooms_of(host)) do
		for _, occupant in room:each_occupant() do
			local known = state.rooms[room.jid] and state.rooms[room.jid].occupants[occupant.jid];
			if not known and not is_test(room) and not is_machine(occupant) then
				joined(room, occupant, prosody.full_sessions[occupant.jid]);
			end
		end
	end
end

function module.unload()
	for host in pairs(attached) do claims[host] = nil; end
	if request and request.request then http.destroy_request(request.request); end
	request = nil;
	state.events = {};
	if head then state.events[1] = head; end
	for _, event in waiting:items() do table.insert(state.events, event); end
end

-- Start and end ----------------------------------------------------------------------------------------------------------

-- What the last run could not send any more comes first. It stays on disk until it is sent: a repeat is recognised by its id.
if not state.events then
	local kept = io.open(file);
	if kept then
		state.events = json.decode(kept:read("*a"));
		state.stored = true;
		kept:close();
	end
end
for index, event in ipairs(state.events or {}) do
	if index == 1 then head = event; else waiting:push(event); end
end
state.events = nil;

-- A server that stops takes all rooms with it, and says so to nobody.
module:hook_global("server-cleanup", function ()
	for room_jid, room in pairs(state.rooms) do
		for occupant_jid in pairs(room.occupants) do left(room_jid, occupant_jid); end
		forget(room_jid);
	end
	local events = { head };
	for _, event in waiting:items() do table.insert(events, event); end
	if #events == 0 then return; end
	local kept, why = datamanager.store_raw(file, json.encode(events));
	if not kept then module:log("error", "%d events could not be kept: %s", #events, why); end
end);

if module:get_host_type() == "component" then
	attach(module.host);
else
	local own = module.host;
	local components = module:get_option_set("webhook_components", { "conference." .. own, "muc." .. own, "breakout." .. own });
	local function look()
		for host in components do
			if prosody.hosts[host] and not attached[host] then attach(host); end
		end
	end
	look();
	module:hook_global("host-activated", look);
	module:hook_global("server-started", function ()
		if not next(attached) then
			module:log("error", "none of %s exists: set webhook_components to your MUC components", tostring(components));
		end
	end);
end
deliver();
