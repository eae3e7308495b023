package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

// openRouter opens the router that is configured or promoted, and names the registry that may promote another; that is
// nil where the path is an artifact by itself. Without a router, simulated arms get one trained in the simulated world,
// and real arms the default one, which knows their tiers.
func openRouter(ctx context.Context, m *Main, c *config, f *fleet) (*classifier.Classifier, *models.Registry, error) {
	dir := c.Router.Artifact
	if dir != "" {
		artifact, err := models.Resolve(dir)
		if err != nil {
			return nil, nil, err
		}
		if artifact == filepath.Clean(dir) {
			opened, err := classifier.Open(artifact)
			if err != nil {
				return nil, nil, fmt.Errorf("the router cannot be used: %w", err)
			}
			return opened, nil, nil
		}
	} else {
		dir = filepath.Join(c.DataDir, "models")
	}
	registry, err := models.OpenRegistry(dir)
	if err != nil {
		return nil, nil, err
	}
	if _, err := registry.Promoted(); errors.Is(err, models.ErrNotPromoted) {
		if !f.simulated {
			return nil, registry, nil
		}
		if err := trainDemonstration(ctx, m, registry); err != nil {
			return nil, nil, fmt.Errorf("training the demonstration router: %w", err)
		}
	}
	a, err := registry.OpenPromoted()
	if err != nil {
		return nil, nil, fmt.Errorf("the router cannot be used: %w", err)
	}
	opened, err := classifier.FromArtifact(a)
	if err != nil {
		return nil, nil, fmt.Errorf("the router %s cannot be used: %w", a.Digest(), err)
	}
	return opened, registry, nil
}

// routerWatch puts what a registry promotes into service while requests are served.
type routerWatch struct {
	current *inService
	metrics *telemetry.Metrics
	log     *slog.Logger
	every   time.Duration
	// promoted is what the registry promoted when the router in service was put there, previous what it did before.
	promoted, previous models.Digest
}

func (w *routerWatch) run(ctx context.Context, registry *models.Registry) {
	err := registry.Watch(ctx, models.WatchOptions{
		Every: w.every, Serving: w.promoted, Load: w.load, Taken: w.taken, Refused: w.refused,
	})
	if err != nil {
		w.log.Error("promoted routers are not watched for", "error", err)
	}
}

// load tries an artifact and swaps the router. Requests that have begun keep theirs. An artifact that knows none of the
// served models is refused: at a start it does no harm, but here it would displace one that may know them.
func (w *routerWatch) load(a *models.Artifact) error {
	c, err := classifier.FromArtifact(a)
	if err != nil {
		return err
	}
	s := w.current
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := serving.NewRouter(s.fleet.arms, c)
	if err != nil {
		return err
	}
	if r.KnowsNone() {
		return errors.New("it knows none of the served models")
	}
	s.gateway.SetRouter(r)
	s.trained, s.router = c, r
	return nil
}

// serving is the router in service.
func (s *inService) serving() *serving.Router {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.router
}

func (w *routerWatch) taken(d models.Digest) {
	w.metrics.RouterTaken()
	if d == w.previous {
		w.metrics.RouterRolledBack()
	}
	w.previous, w.promoted = w.promoted, d
	w.log.Info("a promoted router is in service", "router", string(d), "fallback", string(w.current.serving().Fallback()))
	if unmeasured := w.current.serving().Unmeasured(); len(unmeasured) > 0 {
		w.log.Warn("some served models were not in the router's training data; they serve when named", "router", string(d), "models", len(unmeasured))
	}
}

func (w *routerWatch) refused(d models.Digest, err error) {
	w.metrics.RouterRefused()
	w.log.Error("the promoted router cannot be used; the one in service stays", "promoted", string(d), "in_service", w.current.serving().Version(), "error", err)
}
