// SPDX-License-Identifier: Apache-2.0

package images

import (
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// foreign is an architecture that neither this machine nor its kernel runs.
const foreign = "arm64"

// helloImages are the hello server in many shapes; see hello/main.go for what
// it can be told to do.
func helloImages() []Image {
	// variant is the hello image with the trees of embedded files on top.
	variant := func(tag, why string, trees ...string) Image {
		var exports Layer
		for _, t := range trees {
			exports = append(exports, Embedded(t))
		}
		i := Image{
			Repo: "library/hello", Tags: []string{tag}, Why: why,
			Layers: []Layer{base(), {Hello{Arch: runtime.GOARCH}}},
			Config: helloConfig(tag),
		}
		if exports != nil {
			i.Layers = append(i.Layers, exports)
		}
		return i
	}
	notify := variant("notify", "the plain case: Type=notify, no request to the host", "hello")
	notify.Tags = append(notify.Tags, "latest")

	list := []Image{
		notify,
		variant("simple", "a template without Type=, a payload that never notifies", "hello", "hello-simple"),
		variant("early", "ordered before sysinit.target, without default dependencies", "hello", "hello-early"),
		variant("crash", "exits with code 7 after READY; Restart=on-failure, three times", "hello", "hello-crash"),
		variant("limited", "limits of memory, tasks and processor time in the unit", "hello", "hello-limited"),
		variant("limits", "MemoryMax=, TasksMax= and CPUQuota= in the template; FLAGS=-alloc=256 breaks the first", "hello", "hello-limits"),
		health(variant("health", "hello:notify with a health check that passes", "hello"), "CMD", "/usr/bin/wget", "-qO-", "http://127.0.0.1:8080/"),
		health(variant("sick", "hello:notify with a health check that fails: an update to it must be taken back", "hello"), "CMD-SHELL", "echo hello is sick; exit 1"),
		watched(variant("watched", "hello:notify whose health is what the files /tmp/sick and /tmp/slow say", "hello")),
		variant("wanted", "another [Install] section, another default", "hello", "hello-wanted"),
		variant("type", "TYPE=, WATCHDOG=, REMAIN= and USER= of the template's unit are values", "hello", "hello-type"),
		plain(variant("plain", "no /exports: entrypoint, user, volume, ports, stop signal from the configuration")),
		script(variant("script", "no /exports: a shell script that starts the server as its child")),
		scriptExec(variant("script-exec", "no /exports: a shell script that makes room for the server")),
		docker(variant("docker", "hello:notify with Docker's media types", "hello")),
		zstd(variant("zstd", "hello:notify with zstd layers", "hello")),
	}
	list = append(list, loginImages(variant)...)
	return append(list, helloArchitectures()...)
}

func helloConfig(tag string) v1.Config {
	return v1.Config{
		Entrypoint: []string{"/usr/bin/hello"},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"},
		Labels:     labels("hello", "1.0", tag, "A server that says hello"),
	}
}

func plain(i Image) Image {
	delete(i.Config.Labels, "atomic.type")
	i.Layers = append(i.Layers, Layer{Files{"srv/hello": dir(0o755).owner(1000, 1000)}})
	i.Config.Cmd = []string{"-listen=127.0.0.1:8081", "-stop=USR1"}
	i.Config.Env = append(i.Config.Env, "GREETING=hello world, 100% $plain")
	i.Config.User = "hello"
	i.Config.WorkingDir = "/srv/hello"
	i.Config.StopSignal = "SIGUSR1"
	i.Config.ExposedPorts = map[string]struct{}{"8081/tcp": {}}
	i.Config.Volumes = map[string]struct{}{"/srv/hello": {}}
	return i
}

// script has an entrypoint that leaves an orphan and waits for the server.
func script(i Image) Image {
	i = plain(i)
	i.Layers = append(i.Layers, Layer{Files{"entry.sh": program([]byte("#!/bin/sh\nset -e\n(sleep 0.1 &)\n/usr/bin/hello \"$@\"\necho \"entry: the server has ended\"\n"))}})
	i.Config.Entrypoint = []string{"/entry.sh"}
	i.Config.StopSignal = ""
	return i
}

func scriptExec(i Image) Image {
	i = plain(i)
	i.Layers = append(i.Layers, Layer{Files{"entry.sh": program([]byte("#!/bin/sh\nset -e\nexec /usr/bin/hello \"$@\"\n"))}})
	i.Config.Entrypoint = []string{"/entry.sh"}
	return i
}

func health(i Image, test ...string) Image {
	i.Config.Healthcheck = &v1.HealthConfig{Test: test, Interval: 200 * time.Millisecond, Timeout: 5 * time.Second, StartPeriod: time.Second, Retries: 2}
	return i
}

// watched has a health check that nobody but a test runs: its timer does not
// elapse in a test's time.
func watched(i Image) Image {
	i.Config.Healthcheck = &v1.HealthConfig{
		Test:     []string{"CMD-SHELL", "[ ! -e /tmp/slow ] || sleep 600; [ ! -e /tmp/sick ] || { echo hello is sick; exit 1; }"},
		Interval: time.Hour, Timeout: 3 * time.Second, Retries: 2,
	}
	return i
}

func docker(i Image) Image {
	i.Docker = true
	return i
}

func zstd(i Image) Image {
	i.Zstd = true
	return i
}

// helloArchitectures are images for more and for other machines than this.
func helloArchitectures() []Image {
	on := func(arch string) Image {
		return Image{
			Repo: "library/hello", Tags: []string{arch}, Arch: arch,
			Layers: []Layer{{Hello{Arch: arch}}, {Embedded("hello")}}, Config: helloConfig(arch),
		}
	}
	single := on(foreign)
	single.Why = "a manifest, not an index, whose configuration says " + foreign
	return []Image{single, {
		Repo: "library/hello", Tags: []string{"arm64only"},
		Why:   "an index without an image for this machine",
		Index: []Image{on(foreign)},
	}, {
		Repo: "library/hello", Tags: []string{"multi"},
		Why:   "an index with this machine's image in second place",
		Index: []Image{on(foreign), on(runtime.GOARCH)},
	}}
}
