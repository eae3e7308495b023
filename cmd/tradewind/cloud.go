package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/anthropic"
	"github.com/tradewind-llm/tradewind/serving/upstream/bedrock"
	"github.com/tradewind-llm/tradewind/serving/upstream/google"
	"github.com/tradewind-llm/tradewind/serving/upstream/keyring"
	"github.com/tradewind-llm/tradewind/serving/upstream/openaicompat"
)

// This file knows what the vendors' protocols differ in before the first request: what a provider is made of.

// vendorOptions is all that a provider is made of.
type vendorOptions struct {
	protocol, baseURL string
	key               telemetry.Secret
	allowPrivate      bool
	// responses says that it speaks the Responses API beside chat.
	responses bool
	// apiVersion is Azure's.
	apiVersion string
	// These are Amazon's.
	region, accessKey       string
	secretKey, sessionToken telemetry.Secret
	// These are Vertex AI's.
	project, location string
	account           google.Account
}

// options are those of a provider, once for each of its keys.
func (p *providerConfig) options() []vendorOptions {
	all := []vendorOptions{{
		protocol: p.Type, baseURL: p.BaseURL, key: p.APIKey, allowPrivate: p.AllowPrivate, responses: p.Name == "openai",
		apiVersion: p.APIVersion, region: p.Region, accessKey: p.AccessKeyID, secretKey: p.SecretAccessKey, sessionToken: p.SessionToken,
		project: p.Project, location: p.Location,
	}}
	for _, key := range p.APIKeys {
		o := all[0]
		o.key = key
		all = append(all, o)
	}
	return all
}

// account reads the service account that calls Vertex AI. Errors name the file and quote nothing of it: somebody may have put
// what it should hold in place of its name.
func (p *providerConfig) account() (google.Account, error) {
	switch {
	case p.Type != catalog.ProtocolVertex:
		return google.Account{}, nil
	case p.APIKey != "":
		return google.Account{}, errors.New("Vertex AI takes no api_key here, but the key of a service account: credentials_file")
	case p.CredentialsFile == "":
		return google.Account{}, errors.New("Vertex AI needs the key of a service account: credentials_file, or GOOGLE_APPLICATION_CREDENTIALS")
	case strings.HasPrefix(strings.TrimSpace(p.CredentialsFile), "{"):
		return google.Account{}, errors.New("credentials_file is the name of a file, not what stands in it")
	}
	text, err := readLimited(p.CredentialsFile, secretBytesMax)
	if err != nil {
		return google.Account{}, fmt.Errorf("credentials_file: %w", err)
	}
	account, err := google.ParseAccount(text)
	if err != nil {
		return google.Account{}, fmt.Errorf("credentials_file %s: %w", p.CredentialsFile, err)
	}
	return account, nil
}

// firstKey moves the first of several keys to where a single one stands.
func (p *providerConfig) firstKey() {
	if p.APIKey == "" && len(p.APIKeys) > 0 {
		p.APIKey, p.APIKeys = p.APIKeys[0], p.APIKeys[1:]
	}
}

func (p *providerConfig) validateKeys() error {
	keys := p.APIKeys
	if p.APIKey != "" {
		keys = append([]telemetry.Secret{p.APIKey}, keys...)
	}
	if len(keys) > keyring.KeysMax {
		return fmt.Errorf("config: provider %s has %d keys, want at most %d", p.Name, len(keys), keyring.KeysMax)
	}
	for i, key := range keys {
		if key == "" || slices.Contains(keys[:i], key) {
			return fmt.Errorf("config: provider %s: key %d is empty, or stands twice", p.Name, i+1)
		}
	}
	return nil
}

// ringOf makes a provider of its keys.
func ringOf(options []vendorOptions) (*keyring.Ring, error) {
	var o keyring.Options
	for i := range options {
		p, err := options[i].provider()
		if err != nil {
			return nil, err
		}
		o.Keys = append(o.Keys, p)
	}
	return keyring.New(o)
}

func (o *vendorOptions) provider() (upstream.Provider, error) {
	switch o.protocol {
	case catalog.ProtocolAnthropic:
		return anthropic.New(anthropic.Options{BaseURL: o.baseURL, Key: o.key, AllowPrivate: o.allowPrivate})
	case catalog.ProtocolGoogle:
		return google.New(google.Options{BaseURL: o.baseURL, Key: o.key, AllowPrivate: o.allowPrivate})
	case catalog.ProtocolVertex:
		return o.vertex()
	case catalog.ProtocolBedrock:
		return bedrock.New(bedrock.Options{
			Region: o.region, Token: o.key, AccessKey: o.accessKey, SecretKey: o.secretKey, SessionToken: o.sessionToken, BaseURL: o.baseURL, AllowPrivate: o.allowPrivate,
		})
	}
	return openaicompat.New(openaicompat.Options{
		BaseURL: o.baseURL, Key: o.key, AllowPrivate: o.allowPrivate, Responses: o.responses, Azure: o.protocol == catalog.ProtocolAzure, APIVersion: o.apiVersion,
	})
}

func (o *vendorOptions) vertex() (*google.Provider, error) {
	return google.NewVertex(google.VertexOptions{Project: o.project, Location: o.location, Account: o.account, BaseURL: o.baseURL, AllowPrivate: o.allowPrivate})
}

// fromEnvironment fills in what the variables of a cloud say beside the key, and reports whether all that is needed to
// serve the vendor is there. Azure's variables do not say which models somebody has deployed.
func (p *providerConfig) fromEnvironment(getenv func(string) string) bool {
	switch p.Type {
	case catalog.ProtocolVertex:
		p.CredentialsFile = cmp.Or(p.CredentialsFile, getenv("GOOGLE_APPLICATION_CREDENTIALS"))
		p.Project, p.Location = cmp.Or(p.Project, getenv("GOOGLE_VERTEX_PROJECT")), cmp.Or(p.Location, getenv("GOOGLE_VERTEX_LOCATION"))
		return p.CredentialsFile != "" && p.Project+p.Location != "" // the file lies about for other purposes
	case catalog.ProtocolBedrock:
		p.Region = cmp.Or(p.Region, getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"))
		if p.APIKey == "" && p.AccessKeyID == "" && p.SecretAccessKey == "" {
			p.AccessKeyID, p.SecretAccessKey = getenv("AWS_ACCESS_KEY_ID"), telemetry.Secret(getenv("AWS_SECRET_ACCESS_KEY"))
			p.SessionToken = telemetry.Secret(getenv("AWS_SESSION_TOKEN"))
		}
		return p.APIKey != "" // Amazon's other keys lie about for other purposes
	case catalog.ProtocolAzure:
		if p.BaseURL != "" {
			return false
		}
		p.APIVersion = cmp.Or(p.APIVersion, getenv("AZURE_API_VERSION"))
		if p.BaseURL = strings.TrimSuffix(getenv("AZURE_API_BASE"), "/"); !strings.HasSuffix(p.BaseURL, "/openai/v1") && !strings.HasSuffix(p.BaseURL, "/openai") {
			p.BaseURL = azureBase(p.BaseURL, p.APIVersion)
		}
		return false
	}
	return p.APIKey != ""
}

// azureBase is where an Azure resource speaks: its API without a date, or the dated one.
func azureBase(resource, version string) string {
	switch {
	case resource == "":
		return ""
	case version == "":
		return resource + "/openai/v1"
	}
	return resource + "/openai"
}

// unnamed are the vendors of which the environment says where they are or who asks, and nobody which models they have.
func unnamed(getenv func(string) string) (names []string) {
	for _, v := range catalog.Providers() {
		if v.Name == "azure" && len(keysOf(getenv, v.KeyVars)) > 0 || ollama(v.Name, getenv) != "" {
			names = append(names, v.Name)
		}
	}
	return names
}

// ollama is where OLLAMA_BASE_URL says that Ollama is, with or without the version, and "" for any other vendor: which models
// it has stands in the configuration alone.
func ollama(vendor string, getenv func(string) string) string {
	base := getenv("OLLAMA_BASE_URL")
	if vendor != "ollama" || base == "" {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/v1") + "/v1"
}

// refuses says why a model cannot be asked for at the provider, "" where it can.
func (p *providerConfig) refuses(a *catalog.Arm) string {
	switch {
	case !p.serves(a.Mode):
		return fmt.Sprintf("is for mode %s, which %s's protocol does not have here: only that of type openai or azure does", a.Mode, p.Type)
	case p.Type == catalog.ProtocolVertex && !google.OnVertex(a.ID.Model()):
		return "is another publisher's: on Vertex AI only Google's Gemini models are spoken to"
	}
	return ""
}

// serves reports whether arms of a mode can be asked in the protocol that the provider speaks.
func (p *providerConfig) serves(mode catalog.Mode) bool {
	switch p.Type {
	case catalog.ProtocolAnthropic, catalog.ProtocolGoogle, catalog.ProtocolVertex, catalog.ProtocolBedrock:
		return mode == catalog.ModeChat
	}
	return true
}

// authorize adds the key to a request for the vendor's list of models.
func (p *providerConfig) authorize(h http.Header) {
	key := p.APIKey.Reveal()
	if key == "" {
		return
	}
	switch p.Type {
	case catalog.ProtocolGoogle:
		h.Set("X-Goog-Api-Key", key)
	case catalog.ProtocolAzure:
		h.Set("Api-Key", key)
	default:
		h.Set("Authorization", "Bearer "+key)
	}
}
