// Package quakes is the data of the examples: 1,707 seismic events of the week
// to 7 February 2018.
//
// Source: USGS Earthquake Hazards Program, all-week GeoJSON feed, U.S. public
// domain, as shipped in vega-datasets 3.2.1 (earthquakes.json), reduced to the
// fields of [Event]. Oldest first, one JSON object a line.
package quakes

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bi-common/kafkax"
)

// Event is what a network of stations measured.
type Event struct {
	ID       string  `json:"id"`
	Time     int64   `json:"time"` // milliseconds since 1970, UTC
	Type     string  `json:"type"` // earthquake, explosion or quarry blast
	Net      string  `json:"net"`  // who measured it
	Mag      float64 `json:"mag"`
	MagType  string  `json:"magType"`
	Place    string  `json:"place"`
	Lon      float64 `json:"lon"`
	Lat      float64 `json:"lat"`
	DepthKM  float64 `json:"depth_km"`
	Stations *int    `json:"nst"` // nil: not reported
	Status   string  `json:"status"`
	Tsunami  int     `json:"tsunami"`
}

// At is when it happened.
func (e Event) At() time.Time { return time.UnixMilli(e.Time).UTC() }

func (e Event) String() string {
	return fmt.Sprintf("magnitude %.1f, %s, %s", e.Mag, e.Place, e.At().Format("2 January 2006, 15:04 UTC"))
}

//go:embed usgs-earthquakes-2018-02.jsonl
var lines []byte

// all panics where the embedded file is not what it was when this package was
// tested.
var all = sync.OnceValue(func() []Event {
	var events []Event
	for line := range bytes.Lines(lines) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			panic(fmt.Errorf("quakes: embedded data: %w", err))
		}
		events = append(events, e)
	}
	return events
})

// Events returns the events, oldest first.
func Events() []Event { return slices.Clone(all()) }

// Messages returns the events as messages without a topic: the value is the
// JSON, the key the network, so that each network's events stay in order.
func Messages() []kafkax.Message {
	events := all()
	msgs := make([]kafkax.Message, 0, len(events))
	for line := range bytes.Lines(lines) {
		msgs = append(msgs, kafkax.Message{
			Key:   []byte(events[len(msgs)].Net),
			Value: bytes.Clone(bytes.TrimSuffix(line, []byte("\n"))),
		})
	}
	return msgs
}
