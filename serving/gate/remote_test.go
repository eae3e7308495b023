package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

var fine = reward.Answer{Text: "391", Finish: "stop"}

type webhookCase struct {
	handler http.HandlerFunc
	want    datasets.Verdict
	why     string
}

// webhooks are servers that judge, and servers that do everything wrong. One of them sends its callers elsewhere.
func webhooks(elsewhere string) map[string]webhookCase {
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	return map[string]webhookCase{
		"passes":               {says(200, `{"pass":true}`), datasets.Passed, ""},
		"passes, with more":    {says(200, `{"pass":true,"reason":"fine","score":1}`), datasets.Passed, ""},
		"fails":                {says(200, `{"pass":false,"reason":"wrong sum"}`), datasets.Rejected, "wrong sum"},
		"fails without reason": {says(200, `{"pass":false}`), datasets.Rejected, "rejected"},
		"a long reason":        {says(200, `{"pass":false,"reason":"`+strings.Repeat("x", 10_000)+`"}`), datasets.Rejected, strings.Repeat("x", reasonMax)},
		"a word":               {says(200, `{"pass":"true"}`), datasets.Unjudged, "no verdict"},
		"a number":             {says(200, `{"pass":1}`), datasets.Unjudged, "no verdict"},
		"null":                 {says(200, `{"pass":null}`), datasets.Unjudged, "no verdict"},
		"nothing":              {says(200, ``), datasets.Unjudged, "no verdict"},
		"another object":       {says(200, `{"ok":true}`), datasets.Unjudged, "no verdict"},
		"two":                  {says(200, `{"pass":true}{"pass":true}`), datasets.Unjudged, "no verdict"},
		"HTML":                 {says(200, `<html>sign in</html>`), datasets.Unjudged, "no verdict"},
		"an error that passes": {says(500, `{"pass":true}`), datasets.Unjudged, "status 500"},
		"created":              {says(201, `{"pass":true}`), datasets.Unjudged, "status 201"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
		}, datasets.Unjudged, "status 307"},
		"too much": {says(200, `{"pass":true,"x":"`+strings.Repeat("x", verdictMax)+`"}`), datasets.Unjudged, "too long"},
		"without end": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, strings.Repeat(" ", 4096))
			}
		}, datasets.Unjudged, "too long"},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"pass":true}`)
		}, datasets.Unjudged, "broke off"},
		"resets": {func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = c.Close()
			}
		}, datasets.Unjudged, "could not be reached"},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, datasets.Unjudged, "in time"},
		"trickles": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Millisecond)
			}
		}, datasets.Unjudged, "in time"},
	}
}

// TestWebhook: over real connections.
func TestWebhook(t *testing.T) {
	var elsewhere atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(w, `{"pass":true}`)
	}))
	defer target.Close()
	for name, tt := range webhooks(target.URL) {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			timeout := 30.0
			if tt.why == "in time" {
				timeout = 0.1
			}
			v := judge(t, Config{Webhook: &WebhookConfig{URL: server.URL, TimeoutSeconds: timeout}}, asked(t, "", fine))
			if v.Verdict != tt.want || !strings.Contains(v.Reason, tt.why) || len(v.Reason) > reasonMax || strings.Contains(v.Reason, "127.0.0.1") {
				t.Errorf("%+v, want %s because %q", v, tt.want, tt.why)
			}
		})
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
	if v := judge(t, Config{Webhook: &WebhookConfig{URL: "http://127.0.0.1:1/"}}, asked(t, "", fine)); v.Verdict != datasets.Unjudged {
		t.Errorf("nobody listens: %+v", v)
	}
}

// TestWebhookIsTold what it needs to judge, and its token.
func TestWebhookIsTold(t *testing.T) {
	var got struct {
		Gate, Model string
		RoundID     string `json:"round_id"`
		Request     struct {
			Messages []struct{ Content string }
			Tools    []any
		}
		Answers []struct {
			Text   string
			Finish string `json:"finish_reason"`
		}
	}
	var auth string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("Authorization")
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"pass":true}`)
	}))
	defer server.Close()
	secret := telemetry.Secret("s3cret-token")
	if v := judge(t, Config{Webhook: &WebhookConfig{URL: server.URL, Bearer: secret}}, asked(t, tools, fine)); v.Verdict != datasets.Passed {
		t.Errorf("%+v", v)
	}
	if auth != "Bearer s3cret-token" || got.Gate != "g" || got.Model != "a/m" || got.RoundID != "rnd_1" || len(got.Request.Tools) != 1 ||
		got.Request.Messages[0].Content != "What is 17 times 23?" || got.Answers[0].Text != "391" || got.Answers[0].Finish != "stop" {
		t.Errorf("authorization %q, body %+v", auth, got)
	}
	long := reward.Answer{Text: strings.Repeat("a", payloadMax+1)}
	if v := judge(t, Config{Webhook: &WebhookConfig{URL: server.URL}}, asked(t, "", long)); v.Verdict != datasets.Unjudged || !strings.Contains(v.Reason, "larger") {
		t.Errorf("%+v", v)
	}
}

// script writes a shell script and makes a command of it.
func script(t *testing.T, body string) *CommandConfig {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("commands need Linux")
	}
	path := filepath.Join(t.TempDir(), "check.sh")
	syscall.ForkLock.RLock() // a child of another test that is forked meanwhile would hold the file open for writing, and it could not be run
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return &CommandConfig{Path: path, TimeoutSeconds: 30}
}

const (
	yes = `echo '{"pass":true}'`
	no  = `echo '{"pass":false,"reason":"wrong sum"}'`
)

// TestCommand: real processes that judge, and such that do everything wrong.
func TestCommand(t *testing.T) {
	for name, tt := range map[string]struct {
		body    string
		timeout float64
		want    datasets.Verdict
		why     string
	}{
		"passes":                  {yes, 0, datasets.Passed, ""},
		"fails":                   {no, 0, datasets.Rejected, "wrong sum"},
		"passes, noisy":           {"echo noise >&2; " + yes, 0, datasets.Passed, ""},
		"reads all":               {"cat >/dev/null; " + yes, 0, datasets.Passed, ""},
		"exits with 1":            {"exit 1", 0, datasets.Unjudged, "exit status 1"},
		"says no and crashes":     {no + "; exit 1", 0, datasets.Unjudged, "exit status 1"},
		"says yes and crashes":    {yes + "; kill -SEGV $$", 0, datasets.Unjudged, "ended with"},
		"says nothing":            {"true", 0, datasets.Unjudged, "no verdict"},
		"says something else":     {"echo PASS", 0, datasets.Unjudged, "no verdict"},
		"says both":               {yes + ";" + no, 0, datasets.Unjudged, "no verdict"},
		"talks without end":       {"yes", 0, datasets.Unjudged, ""},
		"hangs":                   {"sleep 1000", 0.2, datasets.Unjudged, "in time"},
		"hangs and ignores terms": {"trap '' TERM INT HUP; while :; do sleep 1; done", 0.2, datasets.Unjudged, "in time"},
		"says yes and hangs":      {yes + "; sleep 1000", 0.2, datasets.Unjudged, "in time"},
		"burns":                   {"while :; do :; done", 0.2, datasets.Unjudged, "in time"},
		"leaves a child":          {"sleep 1000 & " + yes, 0, datasets.Passed, ""},
		"needs much memory":       {`x=aaaaaaaaaaaaaaaa; while :; do x="$x$x"; done`, 0, datasets.Unjudged, "ended with"},
		"has an environment":      {`[ -z "$CANARY$HOME$USER" ] && [ "$(pwd)" = / ] && ` + yes, 0, datasets.Passed, ""},
		"has its own":             {`[ "$MODE" = strict ] && ` + yes, 0, datasets.Passed, ""},
		"reads the answer":        {`grep -q '"text":"391"' && ` + yes, 0, datasets.Passed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := script(t, tt.body)
			c.Env, c.MemoryMB = map[string]string{"MODE": "strict", "PATH": "/usr/bin:/bin"}, 64
			if tt.timeout > 0 {
				c.TimeoutSeconds = tt.timeout
			}
			v := judge(t, Config{Command: c}, asked(t, "", fine))
			if v.Verdict != tt.want || !strings.Contains(v.Reason, tt.why) || tt.timeout == 0 && strings.Contains(v.Reason, "in time") {
				t.Errorf("%+v, want %s because %q", v, tt.want, tt.why)
			}
		})
	}
}

// TestCommandIsStarted without a shell reading its arguments, or not at all.
func TestCommandIsStarted(t *testing.T) {
	c := script(t, `[ "$1" = '$(touch /tmp/x); "' ] && [ "$#" = 1 ] && `+yes)
	c.Args, c.Env = []string{`$(touch /tmp/x); "`}, map[string]string{"PATH": "/usr/bin:/bin"}
	if v := judge(t, Config{Command: c}, asked(t, "", fine)); v.Verdict != datasets.Passed {
		t.Errorf("%+v", v)
	}
	for _, path := range []string{"/nowhere/check", "/etc/passwd", t.TempDir()} {
		if v := judge(t, Config{Command: &CommandConfig{Path: path}}, asked(t, "", fine)); v.Verdict != datasets.Unjudged {
			t.Errorf("%s: %+v", path, v)
		}
	}
}

// TestCommandDiesWithItsChildren: at the deadline, and when the command itself ends, nothing of its group is left.
func TestCommandDiesWithItsChildren(t *testing.T) {
	for name, tt := range map[string]struct {
		end     string
		timeout float64
	}{"at the deadline": {"sleep 1000", 1}, "at its end": {yes, 30}} {
		pids := filepath.Join(t.TempDir(), "pids")
		c := script(t, fmt.Sprintf("echo $$ >%s; (trap '' TERM HUP; sleep 1000) & echo $! >>%s; %s", pids, pids, tt.end))
		c.Env, c.TimeoutSeconds = map[string]string{"PATH": "/usr/bin:/bin"}, tt.timeout
		judge(t, Config{Command: c}, asked(t, "", fine))
		text, err := os.ReadFile(pids)
		if err != nil || len(strings.Fields(string(text))) != 2 {
			t.Fatalf("%s: %q, %v", name, text, err)
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(time.Minute); alive(pid); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: process %d lives on", name, pid)
				}
			}
		}
	}
}

// alive reports whether a process runs; one that has ended and that nobody waited for does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// TestCommandsAreBounded: more at once than there are places wait, and are an error at their own deadline.
func TestCommandsAreBounded(t *testing.T) {
	c := script(t, "sleep 1000")
	c.Env, c.TimeoutSeconds = map[string]string{"PATH": "/usr/bin:/bin"}, 2
	g, err := newGate(&Config{Name: "g", Command: c})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var all sync.WaitGroup
	var busy atomic.Int64
	for range commandsMax + 3 {
		all.Go(func() {
			if v := g.judge(ctx, asked(t, "", fine)); strings.Contains(v.Reason, "too many") {
				busy.Add(1)
			} else if v.Verdict != datasets.Unjudged {
				t.Errorf("%+v", v)
			}
		})
	}
	all.Wait()
	if busy.Load() < 3 {
		t.Errorf("%d found no place, want 3", busy.Load())
	}
}
