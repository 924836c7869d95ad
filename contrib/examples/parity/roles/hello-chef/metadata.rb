name 'hello-chef'
version '1.0.0'
