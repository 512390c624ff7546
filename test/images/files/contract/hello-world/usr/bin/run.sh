#!/bin/sh
# Greets whoever connects, until told to stop.
trap 'exit 0' INT TERM
mkdir -p /tmp/www
echo "Hi $RECEIVER" >/tmp/www/index.html
httpd -f -p "127.0.0.1:$PORT" -h /tmp/www &
wait $!
