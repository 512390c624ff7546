// SPDX-License-Identifier: Apache-2.0

package images

// loginImages are what machinectl login and shell meet: an image with a login
// program, and a container with a user namespace. hello:multi is one that has
// nothing but its payload.
func loginImages(variant func(tag, why string, trees ...string) Image) []Image {
	login := variant("latest", "no /exports, a login program, root without a password")
	login.Repo = "library/guest"
	login.Layers = append(login.Layers, Layer{Files{
		"usr/bin/login": symlink("busybox"),
		"usr/bin/stty":  symlink("busybox"),
		"etc/passwd":    text("root::0:0:root:/root:/bin/sh\nhello::1000:1000:hello:/home:/bin/sh\n"),
	}})
	login.Config.Cmd = []string{"-listen="}
	return []Image{
		login,
		variant("userns", "a user namespace, set up by the template", "hello", "hello-userns"),
		variant("slow", "Restart=always with RestartSec=4", "hello", "hello-slow"),
	}
}
