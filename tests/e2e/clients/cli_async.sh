#!/bin/sh
# Asynchronous inference with the AWS CLI, as a person types it. $AWS is the command.
# Version 1 of it has addresses of its own for SQS and heeds only --endpoint-url there.
set -eu
SQS="$AWS sqs --endpoint-url $AWS_ENDPOINT_URL"
cd "$(mktemp -d)"
mkdir code
cat > code/inference.py <<'PY'
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data.upper(), content_type
PY
tar czf model.tar.gz code
$AWS s3 mb s3://cli-async
$AWS s3 cp model.tar.gz s3://cli-async/model.tar.gz
topic=$($AWS sns create-topic --name cli-results --query TopicArn --output text)
queue=$($SQS create-queue --queue-name cli-results --query QueueUrl --output text)
arn=$($SQS get-queue-attributes --queue-url "$queue" --attribute-names QueueArn --query Attributes.QueueArn --output text)
$AWS sns subscribe --topic-arn "$topic" --protocol sqs --notification-endpoint "$arn" --attributes RawMessageDelivery=true
$AWS sagemaker create-model --model-name cli-async --execution-role-arn arn:aws:iam::123456789012:role/cli \
    --primary-container Image=683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3,ModelDataUrl=s3://cli-async/model.tar.gz
$AWS sagemaker create-endpoint-config --endpoint-config-name cli-async \
    --production-variants VariantName=AllTraffic,ModelName=cli-async,InstanceType=ml.m5.large,InitialInstanceCount=1 \
    --async-inference-config "{\"OutputConfig\": {\"S3OutputPath\": \"s3://cli-async/out\", \"NotificationConfig\": {\"SuccessTopic\": \"$topic\"}}}"
$AWS sagemaker create-endpoint --endpoint-name cli-async --endpoint-config-name cli-async
$AWS sagemaker wait endpoint-in-service --endpoint-name cli-async
$SQS receive-message --queue-url "$queue" --wait-time-seconds 10 --query 'Messages[].Body' --output text | grep TestNotification
$SQS purge-queue --queue-url "$queue"
printf 'hello' | $AWS s3 cp - s3://cli-async/in/hello --content-type text/plain
output=$($AWS sagemaker-runtime invoke-endpoint-async --endpoint-name cli-async --input-location s3://cli-async/in/hello \
    --inference-id from-the-shell --query OutputLocation --output text)
$SQS receive-message --queue-url "$queue" --wait-time-seconds 20 --query 'Messages[].Body' --output text > told
cat told
grep -q '"invocationStatus": *"Completed"' told
grep -q '"inferenceId": *"from-the-shell"' told
$AWS s3 cp "$output" answer.txt
test "$(cat answer.txt)" = HELLO
$AWS sagemaker delete-endpoint --endpoint-name cli-async
$AWS sns delete-topic --topic-arn "$topic"
$SQS delete-queue --queue-url "$queue"
$AWS s3 rm --recursive s3://cli-async
$AWS s3 rb s3://cli-async
echo done
