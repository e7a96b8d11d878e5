package image

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
)

// Options configure a Store. Only Dir is required.
type Options struct {
	// Dir holds everything that outlives the process. It is created.
	Dir string
	// RunDir, if set, holds the pins, so that they outlive the process but
	// not the machine's boot. When empty, pins live in memory only.
	RunDir string
	// OS, Architecture and Variant choose among the images of an index;
	// those of the running binary by default.
	OS, Architecture, Variant string
	// Registries says how to reach registries, by host and port as in a
	// normalised name ("docker.io"); "*" is for every host without an entry.
	Registries map[string]Registry
	// Builtins are images made on this node.
	Builtins []Builtin
	// Log receives what no caller waits for, such as work found unfinished
	// when the store is opened. Discarded when nil.
	Log *slog.Logger
	// MaxLayerBytes bounds one unpacked layer (default 64 GiB), MaxLayerFiles
	// its entries (default 4 million), MaxManifestBytes a manifest or a
	// configuration (default 8 MiB).
	MaxLayerBytes, MaxLayerFiles, MaxManifestBytes int64
	// ReserveBytes stay free on the disk: a pull that would eat into them
	// fails with ErrNoSpace (default 64 MiB).
	ReserveBytes int64
	// Downloads and Unpacks bound what one image's layers do at a time
	// (default 3 and the number of processors, at most 4).
	Downloads, Unpacks int
}

// Registry says how to reach one registry.
type Registry struct {
	// Mirrors are tried in order before the registry itself.
	Mirrors []Endpoint
	// Endpoint configures the registry itself; an empty URL means the host
	// of the image's name.
	Endpoint Endpoint
	// MirrorsOnly forbids to ask the registry itself.
	MirrorsOnly bool
}

// Endpoint is one host that speaks the registry protocol.
type Endpoint struct {
	// URL is scheme, host, and optionally a path put before /v2. The scheme
	// http must be written to be used, except for loopback hosts.
	URL string
	// CA holds PEM certificates trusted besides those of the system.
	CA []byte
	// Cert and Key, in PEM, identify this client.
	Cert, Key []byte
	// SkipVerify accepts any certificate.
	SkipVerify bool
	// Credential is used when the pull brings none.
	Credential *Credential
}

// withDefaults fills in what is unset and refuses what cannot work.
func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, fmt.Errorf("cannot open image store: no directory given")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("cannot open image store: %w", err)
	}
	o.Dir = dir
	if o.OS == "" {
		o.OS = "linux"
	}
	if o.Architecture == "" {
		o.Architecture = runtime.GOARCH
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		p *int64
		v int64
	}{
		{&o.MaxLayerBytes, 64 << 30}, {&o.MaxLayerFiles, 4 << 20},
		{&o.MaxManifestBytes, 8 << 20}, {&o.ReserveBytes, 64 << 20},
	} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if o.Downloads <= 0 {
		o.Downloads = 3
	}
	if o.Unpacks <= 0 {
		o.Unpacks = min(4, max(2, runtime.GOMAXPROCS(0)))
	}
	return o, nil
}
