package google

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// VertexOptions configure a Provider that calls Google's models on Vertex AI. Location and Account are required.
type VertexOptions struct {
	// Project pays; empty is the account's own.
	Project string
	// Location is where the models run: a region such as europe-west4, a part of the world (eu, us), or global.
	Location string
	// Account is who calls.
	Account Account
	// BaseURL is the address up to and with the version; empty is the location's own.
	BaseURL string
	// AllowPrivate, ConnectTimeout and AnswerMax are those of httpclient.Options, for the tokens too. A private endpoint has a
	// private address.
	AllowPrivate   bool
	ConnectTimeout time.Duration
	AnswerMax      int
}

// Validate refuses what cannot be called.
func (o *VertexOptions) Validate() error {
	named := func(s, more string) bool {
		return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
			return (c < '0' || c > '9') && (c < 'a' || c > 'z') && !strings.ContainsRune(more, c)
		})
	}
	if !named(o.Location, "-") {
		return errors.New("google: Vertex AI needs a location, such as europe-west4 or global: location, or GOOGLE_VERTEX_LOCATION")
	}
	if !named(o.project(), "-.:") {
		return errors.New("google: Vertex AI needs a project: project, or GOOGLE_VERTEX_PROJECT")
	}
	configured := ""
	if u, err := url.Parse(o.BaseURL); err == nil {
		configured = u.Hostname()
	}
	return o.Account.validate(configured)
}

func (o *VertexOptions) project() string { return cmp.Or(o.Project, o.Account.Project) }

// base is the address up to the models.
func (o *VertexOptions) base() string {
	root := strings.TrimSuffix(o.BaseURL, "/")
	if root == "" {
		root = "https://" + vertexHost(o.Location) + "/v1"
	}
	return root + "/projects/" + o.project() + "/locations/" + o.Location + "/publishers/google"
}

// vertexHost is where the models of a location are called.
func vertexHost(location string) string {
	switch location {
	case "global":
		return "aiplatform.googleapis.com"
	case "eu", "us":
		return "aiplatform." + location + ".rep.googleapis.com"
	}
	return location + "-aiplatform.googleapis.com"
}

// NewVertex makes a provider of Google's models on Vertex AI. It gets no token before the first call. Close frees its idle
// connections.
func NewVertex(o VertexOptions) (*Provider, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	common := httpclient.Options{BaseURL: o.base(), Secrets: o.Account.Secrets(), AllowPrivate: o.AllowPrivate, ConnectTimeout: o.ConnectTimeout, AnswerMax: o.AnswerMax}
	p, err := New(common)
	if err != nil {
		return nil, err
	}
	common.BaseURL = o.Account.TokenURL
	p.identity, err = newIdentity(&o.Account, common, func(token, before telemetry.Secret) {
		p.client.SetSecrets(token, before) // a call that still runs was made with the one before
	})
	return p, err
}

// Authorize reports whether Google gives the account a token, which the calls that follow use.
func (p *Provider) Authorize(ctx context.Context) error {
	if p.identity == nil {
		return nil // the Gemini API takes a key
	}
	_, err := p.identity.get(ctx, "")
	return err
}

// OnVertex reports whether a model's name is one that is spoken to on Vertex AI. What other publishers have there (Anthropic,
// Meta, Mistral) has other addresses and other protocols.
func OnVertex(model string) bool { return strings.HasPrefix(model, "gemini-") }
