package panel_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/broker/pki"
	"github.com/snapdb/snapdb/subjects"
)

// accessRoutes is above the routes that only a secured cluster answers.
const accessRoutes = "/api/v1/access/"

// The admin of secured test clusters.
const adminPassword = "correct horse battery"

// newSecuredHouse is a secured cluster whose requests come from the admin.
func newSecuredHouse(t testing.TB) (h *house, first string) {
	t.Helper()
	h = startHouse(t, agent.MasterOptions{Secure: true})
	config, err := pki.ClientConfig(h.m.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	h.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	h.furnish()
	return h, h.m.FirstPassword()
}

// as are the same house and requests of another; secret is the cookie of a session, or an
// API token, or "".
func (h *house) as(secret string) *house {
	other := *h
	switch {
	case strings.HasPrefix(secret, "snapdb-session_"):
		other.header = []string{"Cookie", "__Host-snapdb=" + secret}
	case secret != "":
		other.header = []string{"Authorization", "Bearer " + secret}
	default:
		other.header = nil
	}
	return &other
}

const formType = "application/x-www-form-urlencoded"

// form sends a form.
func (h *house) form(path string, fields ...string) (int, http.Header, []byte) {
	h.t.Helper()
	values := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	return h.request("POST", path, values.Encode(), "Content-Type", formType)
}

// login logs in and returns the cookie.
func (h *house) login(user, password string) *http.Cookie {
	h.t.Helper()
	status, header, body := h.form("/login", "user", user, "password", password)
	cookies := (&http.Response{Header: header}).Cookies()
	if status != http.StatusSeeOther || len(cookies) != 1 {
		h.t.Fatalf("login as %s: %d, %v, %s", user, status, cookies, body)
	}
	return cookies[0]
}

// takeOver changes the one-time password and returns the house as the admin sees it.
func (h *house) takeOver(first string) *house {
	h.t.Helper()
	in := h.as(h.login("admin", first).Value)
	if status, _, data := in.form("/password", "old", first, "new", adminPassword, "again", adminPassword); status != http.StatusSeeOther {
		h.t.Fatalf("change the password: %d %s", status, data)
	}
	return in
}

// token makes a token of a user, and the user.
func (h *house) token(user, role string, databases ...string) string {
	h.t.Helper()
	var made subjects.Secret
	u := subjects.UserRequest{User: user, Role: role, Databases: databases, Password: "the password of " + user}
	h.do("POST", "/api/v1/access/users", encode(h.t, u), http.StatusCreated, &made)
	h.do("POST", "/api/v1/access/tokens", encode(h.t, subjects.TokenRequest{User: user, Label: "test", Role: role}), http.StatusCreated, &made)
	return made.Secret
}

func encode(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// refused fails unless a request is refused with a status and a code.
func (h *house) refused(what, method, path, body string, status int, code subjects.Code, header ...string) {
	h.t.Helper()
	got, _, data := h.request(method, path, body, header...)
	var refusal struct{ Error struct{ Code subjects.Code } }
	if err := json.Unmarshal(data, &refusal); err != nil || got != status || refusal.Error.Code != code {
		h.t.Errorf("%s: %s %s: %d %.200s, want %d %s", what, method, path, got, data, status, code)
	}
}

func TestPeopleLogIn(t *testing.T) {
	t.Parallel()
	h, first := newSecuredHouse(t)

	// Nobody sees anything but how to get in.
	status, header, _ := h.request("GET", "/sql?db=a", "")
	if status != http.StatusSeeOther || header.Get("Location") != "/login?next=%2Fsql%3Fdb%3Da" {
		t.Errorf("a page: %d to %s", status, header.Get("Location"))
	}
	h.refused("nobody", "GET", "/api/v1/status", "", http.StatusUnauthorized, "unauthenticated")
	h.refused("nobody", "GET", "/metrics", "", http.StatusUnauthorized, "unauthenticated")
	if status, _, data := h.request("GET", "/healthz", ""); status != 200 || string(data) != `{"ok":true,"secured":true}` {
		t.Errorf("/healthz: %d %s", status, data)
	}
	for _, path := range []string{"/readyz", "/login", "/static/base.css", "/api/v1/openapi.json"} {
		if status, _, data := h.request("GET", path, ""); status != 200 {
			t.Errorf("%s: %d %.100s", path, status, data)
		}
	}

	// What was wrong is not said.
	_, _, one := h.form("/login", "user", "admin", "password", "wrong")
	_, _, other := h.form("/login", "user", "admix", "password", first)
	if !strings.Contains(string(one), "do not go together") || strings.ReplaceAll(string(other), "admix", "admin") != string(one) {
		t.Errorf("a wrong password is answered with %s, a wrong name with %s", one, other)
	}

	// A session that somebody else put into the browser is not the one that begins.
	fixed := h.as("snapdb-session_0123456789ab_" + strings.Repeat("0", 64))
	cookie := fixed.login("admin", first)
	if cookie.Name != "__Host-snapdb" || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("the cookie is %v", cookie)
	}
	in := h.as(cookie.Value)
	if fixed.header[1] == in.header[1] {
		t.Error("the browser chose the session")
	}
	fixed.refused("the fixed session", "GET", "/api/v1/status", "", http.StatusUnauthorized, "unauthenticated")

	// With a one-time password there is nothing but changing it.
	if status, header, _ := in.request("GET", "/logs", ""); status != http.StatusSeeOther || header.Get("Location") != "/password?next=%2Flogs" {
		t.Errorf("%d to %s", status, header.Get("Location"))
	}
	in.refused("one-time password", "GET", "/api/v1/status", "", http.StatusForbidden, "forbidden")
	for what, fields := range map[string][]string{
		"repetition": {"old", first, "new", adminPassword, "again", adminPassword + "x"},
		"short":      {"old", first, "new", "short", "again", "short"},
		"the same":   {"old", first, "new", first, "again", first},
		"old":        {"old", "wrong", "new", adminPassword, "again", adminPassword},
	} {
		if status, _, data := in.form("/password", fields...); status < 400 || status >= 500 || !strings.Contains(string(data), `role="alert"`) {
			t.Errorf("%s: %d %s", what, status, data)
		}
	}
	elsewhere := h.as(h.login("admin", first).Value)
	if status, header, data := in.form("/password", "old", first, "new", adminPassword, "again", adminPassword, "next", "/logs"); status != http.StatusSeeOther || header.Get("Location") != "/logs" {
		t.Errorf("%d to %s: %s", status, header.Get("Location"), data)
	}
	var me subjects.Who
	in.do("GET", "/api/v1/access/me", "", 200, &me)
	if me.User != "admin" || me.Role != "admin" || me.MustChange {
		t.Errorf("%+v", me)
	}
	elsewhere.refused("a session of before", "GET", "/api/v1/status", "", http.StatusUnauthorized, "unauthenticated")

	// After the login it goes on here and nowhere else.
	for next, want := range map[string]string{
		"/sql?db=a": "/sql?db=a", "": "/", "//evil.test/": "/", "https://evil.test/": "/", "/\\evil.test": "/", "\\/evil.test": "/", "javascript:alert(1)": "/",
		"/\t/evil.test": "/", "evil.test": "/", "/logout": "/", "/%2f/evil.test": "/%2f/evil.test",
	} {
		if status, header, _ := in.request("GET", "/login?next="+url.QueryEscape(next), ""); status != http.StatusSeeOther || header.Get("Location") != want {
			t.Errorf("after %q it goes on at %d %q", next, status, header.Get("Location"))
		}
	}

	// Secrets of one kind are none of another, and nothing comes near one.
	secret := cookie.Value
	for what, header := range map[string][]string{
		"changed":           {"Cookie", "__Host-snapdb=" + secret[:len(secret)-1] + map[bool]string{true: "0", false: "1"}[secret[len(secret)-1] == '1']},
		"without the end":   {"Cookie", "__Host-snapdb=" + secret[:len(secret)-1]},
		"without prefix":    {"Cookie", "snapdb=" + secret},
		"as a token":        {"Authorization", "Bearer " + secret},
		"a password":        {"Authorization", "Bearer " + adminPassword},
		"an empty token":    {"Authorization", "Bearer ", "Cookie", "__Host-snapdb=" + secret},
		"a name at the API": {"Snapdb-As", "admin"},
	} {
		h.as("").refused(what, "GET", "/api/v1/status", "", http.StatusUnauthorized, "unauthenticated", header...)
	}

	// Pages of other sites get nothing done with the cookie.
	for what, header := range map[string][]string{"origin": {"Origin", "https://evil.test"}, "site": {"Sec-Fetch-Site", "cross-site"}, "null": {"Origin", "null"}} {
		in.refused(what, "POST", "/api/v1/databases", `{"name":"stolen"}`, http.StatusForbidden, "denied", header...)
		in.refused(what, "POST", "/logout", "", http.StatusForbidden, "denied", header...)
		in.refused(what, "POST", "/login", "user=admin", http.StatusForbidden, "denied", append(header, "Content-Type", formType)...)
	}

	// Logged out is logged out.
	if status, header, _ := in.form("/logout"); status != http.StatusSeeOther || !strings.Contains(header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("%d %v", status, header)
	}
	in.refused("logged out", "GET", "/api/v1/status", "", http.StatusUnauthorized, "unauthenticated")

	// Who guesses has to wait, and is told how long.
	for range 10 {
		if status, _, other = h.form("/login", "user", "nobody", "password", "guess"); status == http.StatusTooManyRequests {
			break
		}
	}
	if status != http.StatusTooManyRequests || !strings.Contains(string(other), "try again in ") {
		t.Errorf("%d %s", status, other)
	}
	h.login("admin", adminPassword) // from where he has been before
}

func TestServerIsReachedByHTTPSAndItsNamesOnly(t *testing.T) {
	t.Parallel()
	h, _ := newSecuredHouse(t)
	plain := *h
	resp, err := h.client.Get("http" + strings.TrimPrefix(plain.p.URL(), "https") + "/sql?db=a")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if want := h.p.URL() + "/sql?db=a"; resp.StatusCode != http.StatusPermanentRedirect || resp.Header.Get("Location") != want {
		t.Errorf("%d to %s, want %s", resp.StatusCode, resp.Header.Get("Location"), want)
	}
	resp, err = h.client.Post("http"+strings.TrimPrefix(plain.p.URL(), "https")+"/login", formType, strings.NewReader("user=admin&password=x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a login that everybody on the way can read: %d", resp.StatusCode)
	}
	for _, host := range []string{"evil.test", "localhost.evil.test:8080", "192.0.2.1"} {
		h.refused("rebound name", "GET", "/readyz", "", http.StatusForbidden, "denied", "Host", host)
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if status, header, data := h.request("GET", "/healthz", "", "Host", name+":8080"); status != 200 || header.Get("Strict-Transport-Security") == "" {
		t.Errorf("as %s: %d %s, %v", name, status, data, header)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(h.p.URL(), "https://"), &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	if err == nil {
		conn.Close()
		t.Error("an old version of TLS is spoken")
	}
}

// least is the lowest role that has a route, "" if everybody does.
var least = map[string]string{
	"get /healthz": "", "get /readyz": "", "get /metrics": "viewer", "get /api/v1/openapi.json": "",
	"get /api/v1/status": "viewer", "get /api/v1/nodes": "viewer", "get /api/v1/nodes/{id}": "viewer", "get /api/v1/logs": "viewer", "get /api/v1/history": "viewer", "get /api/v1/live": "viewer",
	"post /api/v1/exec": "viewer", "post /api/v1/query": "viewer", "post /api/v1/transaction": "viewer",
	"get /api/v1/databases": "viewer", "post /api/v1/databases": "writer", "delete /api/v1/databases/{name}": "admin", "get /api/v1/databases/{name}/schema": "viewer",
	"get /api/v1/commands": "viewer", "post /api/v1/commands": "operator", "post /api/v1/commands/preview": "operator", "get /api/v1/commands/{id}": "viewer",
	"post /api/v1/commands/{id}/cancel": "operator", "post /api/v1/commands/{id}/retry": "operator",
	"post /api/v1/files": "writer", "get /api/v1/files/{digest}": "operator",
	"get /api/v1/access/me": "viewer", "post /api/v1/access/password": "viewer",
	"get /api/v1/access/users": "admin", "post /api/v1/access/users": "admin", "post /api/v1/access/users/{user}": "admin", "delete /api/v1/access/users/{user}": "admin", "post /api/v1/access/users/{user}/reset": "admin",
	"get /api/v1/access/tokens": "viewer", "post /api/v1/access/tokens": "viewer", "delete /api/v1/access/tokens/{id}": "viewer",
	"get /api/v1/access/sessions": "viewer", "delete /api/v1/access/sessions/{id}": "viewer",
	"get /api/v1/access/invitations": "admin", "post /api/v1/access/invitations": "admin", "delete /api/v1/access/invitations/{id}": "admin",
	"get /api/v1/access/audit": "admin", "post /api/v1/access/audit/verify": "admin",
	"get /api/v1/access/nodes": "admin", "delete /api/v1/access/nodes/{id}": "admin",
}

func TestEveryRouteKeepsToTheRoles(t *testing.T) {
	t.Parallel()
	h, first := newSecuredHouse(t)
	in := h.takeOver(first)
	var a answer
	in.do("POST", "/api/v1/databases", `{"name":"a"}`, http.StatusCreated, &a)
	in.do("POST", "/api/v1/databases", `{"name":"b"}`, http.StatusCreated, &a)
	in.do("POST", "/api/v1/exec", `{"db":"a","sql":"CREATE TABLE t (x)"}`, 200, &a)
	ladder := []string{"", "viewer", "writer", "operator", "admin"}
	visitors := map[string]*house{"": h.as("")}
	for _, role := range ladder[1:] {
		visitors[role] = h.as(in.token(role+"1", role))
	}
	for path, methods := range h.api.Paths {
		for method := range methods {
			need, known := least[method+" "+path]
			if !known {
				t.Errorf("which role has %s %s?", method, path)
			}
			is, body := path, ""
			for _, part := range []string{"{id}", "{name}", "{user}", "{digest}"} {
				is = strings.ReplaceAll(is, part, "nothing")
			}
			if method == "post" {
				body = "{}"
			}
			if strings.HasSuffix(path, "/password") {
				body = "[]" // not to be counted as a guess
			}
			if strings.HasSuffix(path, "/tokens") && method == "post" {
				body = `{"label":"test"}`
			}
			for rank, role := range ladder {
				status, _, data := visitors[role].request(strings.ToUpper(method), is, body)
				may := rank >= slices.Index(ladder, need)
				switch {
				case may && (status == 401 || status == 403),
					!may && role == "" && status != 401,
					!may && role != "" && (status != 403 || !strings.Contains(string(data), `"forbidden"`)):
					t.Errorf("%s %s as %q: %d %.200s", method, path, role, status, data)
				}
			}
		}
	}

	// What is not plain from the route, the doors refuse.
	for role, sql := range map[string]string{"viewer": "INSERT INTO t VALUES (1)", "operator": "DROP DATABASE b"} {
		visitors[role].refused(role, "POST", "/api/v1/exec", fmt.Sprintf(`{"db":"a","sql":%q}`, sql), http.StatusForbidden, "forbidden")
	}
	viewer := visitors["viewer"]
	viewer.refused("another's tokens", "GET", "/api/v1/access/tokens?user=*", "", http.StatusForbidden, "forbidden")
	viewer.refused("another name", "GET", "/api/v1/access/users", "", http.StatusForbidden, "forbidden", subjects.HeaderAs, "admin")
	var me subjects.Who
	if viewer.do("GET", "/api/v1/access/me", "", 200, &me); me.User != "viewer1" || me.Role != "viewer" {
		t.Errorf("%+v", me)
	}
	status, _, data := viewer.request("GET", "/api/v1/access/me", "", subjects.HeaderAs, "admin", strings.ToLower(subjects.HeaderAs), "admin")
	if status != 200 || !strings.Contains(string(data), `"viewer1"`) {
		t.Errorf("with a header that only the panel sends: %d %s", status, data)
	}
	// Programs are of no site.
	if status, _, data := visitors["writer"].request("POST", "/api/v1/exec", `{"db":"a","sql":"INSERT INTO t VALUES (1)"}`, "Origin", "https://program.test"); status != 200 {
		t.Errorf("%d %s", status, data)
	}

	// Pages are kept to as routes are, and whoever may not see one is told why.
	for path, need := range map[string]string{
		"/": "viewer", "/sql": "viewer", "/databases": "viewer", "/replication": "viewer", "/commands": "viewer", "/files": "viewer", "/logs": "viewer",
		"/nodes/snap1": "viewer", "/access": "viewer", "/audit": "admin",
	} {
		for rank, role := range ladder {
			want := map[bool]int{true: 200, false: 403}[rank >= slices.Index(ladder, need)]
			if role == "" {
				want = http.StatusSeeOther
			}
			if status, _, page := visitors[role].request("GET", path, ""); status != want || want == 403 && !strings.Contains(string(page), "takes the role "+need) {
				t.Errorf("page %s as %q: %d, want %d", path, role, status, want)
			}
		}
	}

	in.manage()
	for path, methods := range h.api.Paths {
		for method := range methods {
			if strings.HasPrefix(path, accessRoutes) && !h.api.seen[method+" "+path] {
				t.Errorf("%s %s has not answered", method, path)
			}
		}
	}
}

// manage does with users, tokens, sessions, invitations and nodes all that can be done.
func (h *house) manage() {
	t := h.t
	t.Helper()
	secret := h.token("dave", "viewer")
	dave := h.as(secret)
	var done struct{}
	h.do("POST", "/api/v1/access/users/dave", `{"role":"operator","databases":["a"],"labels":"room=lab1"}`, 200, &done)
	var me subjects.Who
	if dave.do("GET", "/api/v1/access/me", "", 200, &me); me.Role != "viewer" || !slices.Equal(me.Databases, []string{"a"}) {
		t.Errorf("the token has %+v", me) // it was made as a viewer's
	}
	password := "another password of dave"
	dave.do("POST", "/api/v1/access/password", encode(t, subjects.PasswordRequest{Old: "the password of dave", New: password}), 200, &done)
	session := h.as("").login("dave", password)
	var sessions subjects.SessionListResponse
	h.do("GET", "/api/v1/access/sessions?user=dave", "", 200, &sessions)
	if len(sessions.Sessions) != 1 || sessions.Sessions[0].Own || !strings.HasPrefix(sessions.Sessions[0].From, "127.0.0.1") {
		t.Fatalf("%+v", sessions)
	}
	h.do("DELETE", "/api/v1/access/sessions/"+sessions.Sessions[0].ID, "", 200, &done)
	h.as(session.Value).refused("a closed session", "GET", "/api/v1/status", "", 401, "unauthenticated")

	var users subjects.UserListResponse
	if h.do("GET", "/api/v1/access/users", "", 200, &users); !slices.ContainsFunc(users.Users, func(u subjects.UserEntry) bool { return u.User == "dave" && u.Labels == "room=lab1" }) {
		t.Errorf("%+v", users)
	}
	var made subjects.Secret
	if h.do("POST", "/api/v1/access/users/dave/reset", "", 200, &made); made.Secret == "" {
		t.Errorf("%+v", made)
	}
	dave.refused("before a one-time password is changed", "GET", "/api/v1/status", "", 403, "forbidden")

	var own subjects.Secret
	h.do("POST", "/api/v1/access/tokens", `{"label":"short","role":"viewer","expires":"`+time.Now().Add(900*time.Millisecond).UTC().Format(time.RFC3339Nano)+`"}`, http.StatusCreated, &own)
	h.untilUnknown("an expired token", own.Secret)
	h.do("POST", "/api/v1/access/tokens", `{"label":"x"}`, http.StatusCreated, &own)
	var tokens subjects.TokenListResponse
	if h.do("GET", "/api/v1/access/tokens?user=*", "", 200, &tokens); len(tokens.Tokens) < 3 {
		t.Errorf("%+v", tokens)
	}
	h.do("DELETE", "/api/v1/access/tokens/"+own.ID, "", 200, &done)
	h.as(own.Secret).refused("a revoked token", "GET", "/api/v1/status", "", 401, "unauthenticated")
	h.do("DELETE", "/api/v1/access/users/dave", "", 200, &done)
	dave.refused("a token of nobody", "GET", "/api/v1/status", "", 401, "unauthenticated")
	h.refused("oneself", "DELETE", "/api/v1/access/users/admin", "", 400, "bad_request")

	h.do("POST", "/api/v1/access/invitations", `{"labels":{"room":"lab1"},"uses":2}`, http.StatusCreated, &made)
	h.startSlaveWith("snap1", made.Secret)
	var invitations subjects.InvitationListResponse
	await(h.watch(`{"type":"watch","topics":["cluster"]}`), "cluster", "cluster", func(info subjects.ClusterInfoResponse) bool { return info.Online() == 1 })
	if h.do("GET", "/api/v1/access/invitations", "", 200, &invitations); !slices.ContainsFunc(invitations.Invitations, func(i subjects.InvitationEntry) bool { return i.ID == made.ID && i.Used == 1 }) {
		t.Errorf("%+v", invitations)
	}
	h.do("DELETE", "/api/v1/access/invitations/"+made.ID, "", 200, &done)
	var nodes subjects.NodeKeyListResponse
	if h.do("GET", "/api/v1/access/nodes", "", 200, &nodes); len(nodes.Nodes) != 1 || nodes.Nodes[0].ID != "snap1" {
		t.Errorf("%+v", nodes)
	}
	var record struct {
		Entries []struct{ Who, Action, Outcome string }
	}
	h.do("GET", "/api/v1/access/audit?outcome=ok&limit=1000", "", 200, &record)
	for _, action := range []string{"login", "access.user.add"} {
		if !slices.ContainsFunc(record.Entries, func(e struct{ Who, Action, Outcome string }) bool { return e.Action == action }) {
			t.Errorf("no %s is on record: %+v", action, record.Entries)
		}
	}
	var proof subjects.AuditReport
	if h.do("POST", "/api/v1/access/audit/verify", "", 200, &proof); proof.Bad != "" || proof.Entries == 0 {
		t.Errorf("%+v", proof)
	}
	if err := h.slaves["snap1"].Stop(t.Context()); err != nil {
		t.Error(err)
	}
	delete(h.slaves, "snap1")
	h.do("DELETE", "/api/v1/access/nodes/snap1", "", 200, &done)
}

// untilUnknown waits until a secret is nobody's any more.
func (h *house) untilUnknown(what, secret string) {
	h.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	for {
		if status, _, _ := h.as(secret).request("GET", "/api/v1/status", ""); status == 401 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("%s is still good", what)
		}
	}
}

// end waits for the end of a WebSocket, and returns its code.
func (s *socket) end() websocket.StatusCode {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := s.conn.Read(ctx); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func TestWhatIsLiveEndsWithTheSessionAndKeepsToTheDatabases(t *testing.T) {
	t.Parallel()
	h, first := newSecuredHouse(t)
	in := h.takeOver(first)
	var a answer
	for _, db := range []string{"mine", "other"} {
		in.do("POST", "/api/v1/databases", fmt.Sprintf(`{"name":%q}`, db), http.StatusCreated, &a)
	}
	limited := in.token("lim", "operator", "mine")
	lim := h.as(limited)
	live := "wss" + strings.TrimPrefix(h.p.URL(), "https") + "/api/v1/live"
	for what, c := range map[string]struct {
		header []string
		status int
	}{
		"nobody":                     {nil, 401},
		"a page of another site":     {append([]string{"Origin", "https://evil.test"}, in.header...), 403},
		"another site, with a token": {append([]string{"Origin", "https://evil.test"}, lim.header...), 403},
	} {
		conn, resp, err := websocket.Dial(t.Context(), live, &websocket.DialOptions{HTTPClient: h.client, HTTPHeader: headers(c.header)})
		if err == nil {
			conn.CloseNow()
		}
		if resp == nil || resp.StatusCode != c.status {
			t.Errorf("%s: %v, %v", what, resp, err)
		}
	}

	s := lim.watch(`{"type":"watch","topics":["cluster","logs","samples","commands"]}`)
	for samples := 0; samples < 2; {
		m := s.next()
		if string(m["type"]) == `"logs"` || strings.Contains(string(m["cluster"]), "other") {
			t.Fatalf("who may use one database sees %.300s", m)
		}
		if string(m["type"]) == `"sample"` {
			samples++
		}
	}
	for _, path := range []string{"/api/v1/logs", "/metrics"} {
		lim.refused("limited", "GET", path, "", 403, "forbidden")
	}
	for _, path := range []string{"/api/v1/status", "/api/v1/databases", "/readyz"} {
		if status, _, data := lim.request("GET", path, ""); status != 200 || strings.Contains(string(data), "other") {
			t.Errorf("%s: %d %s", path, status, data)
		}
	}
	lim.refused("at a node", "POST", "/api/v1/query?node=snap1", `{"db":"mine","sql":"SELECT 1"}`, 403, "forbidden")
	lim.refused("at a node", "GET", "/api/v1/databases/other/schema?node=snap1", "", 403, "forbidden")
	lim.refused("elsewhere", "GET", "/api/v1/databases/other/schema", "", 403, "forbidden")

	var done struct{}
	in.do("POST", "/api/v1/access/users/lim", `{"role":"operator","databases":["mine","other"]}`, 200, &done)
	if code := s.end(); code != 4403 {
		t.Errorf("with other rights it ends with %d", code)
	}
	s = in.watch(`{"type":"watch","topics":["cluster"]}`)
	s.next()
	began := time.Now()
	if status, _, _ := in.form("/logout"); status != http.StatusSeeOther {
		t.Error(status)
	}
	if code := s.end(); code != 4401 {
		t.Errorf("with the session it ends with %d", code)
	}
	t.Logf("ended after %v", time.Since(began))
}
