#!/bin/sh
# Makes the secrets of an installation, once: what is there already is left alone.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# The folder is private; the files are not, since each container reads them as a user of its own.
secret() {
    [ -e "secrets/$1" ] || printf '%s' "$2" >"secrets/$1"
    chmod 644 "secrets/$1"
}

secret cluster_key "$(random)"
secret operator_token "$(random)"
secret grafana_password "$(random)"
# The URL of your incoming webhook goes here: https://hooks.slack.com/services/...
secret slack_webhook "http://localhost/put-the-url-of-your-slack-webhook-into-secrets/slack_webhook"

if [ ! -e media-tree.env ]; then
    {
        echo "MEDIA_TREE_OPERATOR_TOKENS=$(cat secrets/operator_token)"
        echo "MEDIA_TREE_PUBLISH_TOKENS=$(random)"
    } >media-tree.env
fi

[ -e .env ] || echo "COMPOSE_PROJECT_NAME=media-tree" >.env

echo "Publish to http://localhost:8080/publish/NAME with the token in media-tree.env,"
echo "watch at http://localhost:8080/watch/NAME."
echo "Grafana: http://localhost:3000, user admin, password in secrets/grafana_password."
echo "Operate: MEDIA_TREE_OPERATOR_TOKEN=\$(cat secrets/operator_token) media-tree status"
