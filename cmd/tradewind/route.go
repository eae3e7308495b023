package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/rules"
)

// promptBytesMax bounds a prompt on standard input.
const promptBytesMax = 32 << 20

type routeCmd struct {
	Artifact     string  `help:"Artifact or registry; default is the promoted one of the data directory." type:"path"`
	Strategy     string  `help:"cost, latency, balanced, availability or quality." default:"balanced"`
	QualityFloor float64 `help:"Leave out arms whose lower bound on quality is below this."`
	Explain      bool    `help:"Print the whole decision as JSON."`
	Config       string  `help:"Configuration file." type:"path"`
}

// Run decides for the prompt on standard input exactly as the server would: it asks the gateway's own /v1/route.
func (c *routeCmd) Run(ctx context.Context, m *Main) error {
	prompt, err := io.ReadAll(io.LimitReader(m.Stdin, promptBytesMax+1))
	if err != nil {
		return err
	}
	if len(prompt) == 0 || len(prompt) > promptBytesMax {
		return fmt.Errorf("give a prompt of 1 to %d bytes on standard input", promptBytesMax)
	}
	answer, err := c.ask(ctx, m, string(prompt))
	if err != nil {
		return err
	}
	if c.Explain {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, answer, "", "  "); err != nil {
			return err
		}
		_, err = fmt.Fprintln(m.Stdout, pretty.String())
		return err
	}
	var e serving.Explanation
	if err := json.Unmarshal(answer, &e); err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.Stdout, "%s\n%s\n", e.Action, e.Sentence)
	return err
}

func (c *routeCmd) ask(ctx context.Context, m *Main, prompt string) ([]byte, error) {
	conf, err := loadConfig(c.Config, m.Getenv, func(conf *config) {
		if c.Artifact != "" {
			conf.Router.Artifact = c.Artifact
		}
		conf.Keys = nil // nobody listens: whoever runs this reads the configuration anyway
		conf.Rules = slices.DeleteFunc(conf.Rules, func(r rules.Config) bool { return len(r.Keys)+len(r.Teams)+len(r.Orgs) > 0 })
		conf.GatePolicies = slices.DeleteFunc(conf.GatePolicies, func(p gate.PolicyConfig) bool { return len(p.Keys)+len(p.Teams)+len(p.Orgs) > 0 })
		conf.Listen = "127.0.0.1:0"
	})
	if err != nil {
		return nil, err
	}
	if promoted := filepath.Join(conf.DataDir, "models"); conf.Router.Artifact == "" { // without one the default router decides
		if _, err := models.Resolve(promoted); err == nil {
			conf.Router.Artifact = promoted
		} else if !errors.Is(err, models.ErrNotPromoted) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	// A decision writes nothing, but a gateway wants a journal: it gets one of its own, not the server's.
	scratch, err := os.MkdirTemp("", "tradewind-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	conf.DataDir = scratch
	f, err := assemble(conf, m.Getenv, time.Now(), nil)
	if err != nil {
		return nil, err
	}
	srv, _, err := build(ctx, m, conf, f)
	if err != nil {
		return nil, err
	}
	defer func() { _ = srv.stores.Close() }()
	body, err := json.Marshal(map[string]any{
		"model": "auto", "messages": []map[string]string{{"role": "user", "content": prompt}},
		"tradewind": map[string]any{"strategy": c.Strategy, "quality_floor": c.QualityFloor},
	})
	if err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	srv.http.Handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/v1/route", bytes.NewReader(body)))
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("no decision: %s", w.Body)
	}
	return w.Body.Bytes(), nil
}
