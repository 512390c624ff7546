#!/bin/sh
# Runs on the host, before the container is there.
mkdir -p /var/lib/docker /etc/docker
