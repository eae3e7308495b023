package serving

import (
	"bytes"
	"maps"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/serving/anthropic"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// formats are the values of /v1/route's query.
var formats = map[string]openai.Dialect{"openai": openai.Chat, "anthropic": openai.Messages, "responses": openai.Responses}

// asked is the surface whose body a dry run has: the one that is named, else Anthropic's where its header is there, else
// Responses' where the body has an input and no messages, else chat's.
func (g *Gateway) asked(c *gin.Context) (*served, error) {
	if format := c.Query("format"); format != "" {
		d, named := formats[format]
		if !named {
			return nil, openai.BadParam("format", "must be one of openai, anthropic, responses%s", openai.DidYouMean(format, slices.Sorted(maps.Keys(formats))))
		}
		return g.surfaces[d], nil
	}
	if c.GetHeader("Anthropic-Version") != "" {
		return g.surfaces[openai.Messages], nil
	}
	chat := g.surfaces[openai.Chat]
	either := *chat.surface
	either.decode = func(body []byte, o openai.DecodeOptions) (*openai.Request, *openai.Spoken, error) {
		if fields, err := openai.ParseFields(body, o); err == nil && fields.Get("input") != nil && fields.Get("messages") == nil {
			return g.surfaces[openai.Responses].decode(body, o)
		}
		return chat.decode(body, o)
	}
	return &served{&either, chat.meter}, nil
}

// countTokens estimates the tokens of a Messages request by our own tokenizer. No vendor is asked.
func (g *Gateway) countTokens(c *gin.Context, p *governance.Principal) {
	place, err := g.enter(p, c.Request)
	if err != nil {
		g.fail(c, err)
		return
	}
	defer place.Leave()
	var body bytes.Buffer
	if err := g.readBody(&body, c.Request, place.Body(c.Request.Body), g.o.BodyMax); err != nil {
		g.fail(c, err)
		return
	}
	grant, refusal := g.o.Quota.Admit(p.KeyID, p.Limits, 0)
	if refusal != nil {
		g.fail(c, rateError(c.Header, refusal))
		return
	}
	defer grant.Release()
	wire, _, err := spoken(anthropic.DecodeCount)(body.Bytes(), openai.DecodeOptions{BodyMax: g.o.BodyMax})
	if err != nil {
		g.fail(c, err)
		return
	}
	var context features.Context
	g.live.Load().Router.extractor.Extract(&context, &wire.Prompt)
	c.Header("X-Tradewind-Estimated", "true")
	c.JSON(http.StatusOK, gin.H{"input_tokens": context.Tokens})
}
