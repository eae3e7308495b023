package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// What is declared in the file decides who may be asked, doctor says whom, and none of it reaches the vendor.
func TestDeclaredProviders(t *testing.T) {
	v := newVendor(t)
	provider := func(name, more, model string) string {
		return fmt.Sprintf("  - {name: %s, base_url: \"%s/v1\", api_key: sk-lab-0123456789, allow_private: true%s, models: [{name: m%s, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}\n", name, v.URL, more, model)
	}
	file := write(t, "tradewind.yaml", "providers:\n"+provider("open", "", ", quantization: bf16")+provider("shy", ", data_collection: deny", ", quantization: fp8")+provider("silent", ", zdr: true", ""))
	by, _ := examined(t, nil, "--offline", "--config", file)
	contains(t, "doctor", by["config"], "requests with provider.data_collection: deny go to shy, silent alone", "requests with provider.zdr go to silent alone")
	s := start(t, nil, "--config", file)
	for provider, want := range map[string]string{
		`"data_collection":"deny","order":["open","shy"]`: "shy",
		`"zdr":true,"order":["open","shy"]`:               "silent",
		`"quantizations":["fp8"]`:                         "shy",
		`"order":["open"]`:                                "open",
		`"zdr":true,"quantizations":["fp8"]`:              "",
	} {
		r := s.call("POST", "/v1/chat/completions", "", ask("m", "hi", `,"provider":{`+provider+`}`))
		if want == "" {
			r.want(t, 400, nil)
			contains(t, provider, string(r.body), `"no_candidate"`, `"data_policy"`, `"quantization"`, "nobody has declared")
			continue
		}
		r.want(t, 200, nil)
		if got := r.header.Get("X-Tradewind-Provider"); got != want {
			t.Errorf("%s: answered by %s, want %s", provider, got, want)
		}
		if call := <-v.calls; call.body["provider"] != nil {
			t.Errorf("the vendor saw %v", call.body)
		}
	}
}

// The names that the file may use are those that requests use.
func TestQuantizationsAgree(t *testing.T) {
	f, _ := reflect.TypeFor[modelConfig]().FieldByName("Quantization")
	if got, want := f.Tag.Get("enum"), strings.Join(catalog.Quantizations(), ","); got != want {
		t.Errorf("the configuration knows %s, the catalog %s", got, want)
	}
}
