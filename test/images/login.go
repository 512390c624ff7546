// SPDX-License-Identifier: Apache-2.0

package images

import "archive/tar"

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
		gettyImage(variant, "latest", "no /exports; agetty, login, who and PAM of Debian "+older+", a utmp, passwords", "usr/sbin/agetty", "usr/bin/setsid"),
		gettyImage(variant, "login", "the same without agetty"),
		variant("userns", "a user namespace, set up by the template", "hello", "hello-userns"),
		variant("slow", "Restart=always with RestartSec=10", "hello", "hello-slow"),
	}
}

// secret is "secret", as `openssl passwd -6 -salt atomic secret` prints it.
const secret = "$6$atomic$gQCLfjVB2nzqnE1HF8daVvaKKBFEKbsFdL7YfICCGTM0747wcrDP8rGPuJ.YyAEJAeDK8O7H.yOLOpvbqia8h/"

// gettyImage has login, PAM, who and what else more says, as Debian packages
// them, and a utmp: its payload makes one, as a service manager would. root's
// password is "secret", hello has none set.
func gettyImage(variant func(tag, why string, trees ...string) Image, tag, why string, more ...string) Image {
	i := variant(tag, why)
	i.Repo = "library/getty"
	pam := func(kind string) file { return text(kind + "\trequired\tpam_unix.so\n") }
	i.Layers = append(i.Layers, Layer{
		Debian{Suite: older, Packages: []string{"util-linux", "login", "passwd", "coreutils", "libpam-modules", "libpam-runtime", "bash"}, Take: append([]string{
			"usr/bin/login", "usr/bin/who", "usr/bin/stty", "usr/bin/bash",
			"usr/sbin/unix_chkpwd", "etc/pam.d/login", "etc/pam.d/other", "etc/login.defs", "etc/security/",
			"usr/lib/*-linux-gnu*/*.so*", "usr/lib/*-linux-gnu*/security/*.so", "usr/lib*/ld-linux-*",
		}, more...)},
	}, Layer{Files{
		// What pam-auth-update would have written.
		"etc/pam.d/common-auth":     pam("auth"),
		"etc/pam.d/common-account":  pam("account"),
		"etc/pam.d/common-session":  pam("session"),
		"etc/pam.d/common-password": pam("password"),
		"etc/passwd":                text("root:x:0:0:root:/root:/bin/sh\nhello:x:1000:1000:hello:/home:/bin/bash\n"),
		"etc/shadow":                {typ: tar.TypeReg, mode: 0o600, data: []byte("root:" + secret + ":20000:0:99999:7:::\nhello:!:20000:0:99999:7:::\n")},
		"etc/hostname":              text("getty\n"),
	}})
	i.Config.Entrypoint = []string{"/bin/sh", "-c", ": >/run/utmp; exec /usr/bin/hello \"$@\"", "hello"}
	i.Config.Cmd = []string{"-listen="}
	return i
}
