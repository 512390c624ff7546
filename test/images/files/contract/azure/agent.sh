#!/bin/sh
# Runs on the host, in the root file system of the image.
echo "agent in $(pwd)"
exec sleep infinity
