// reach ADDRESS PORT [TEXT]: connects, says the text, and prints all that the other side says.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
    char said[4096];
    ssize_t length;
    if (count != 3 && count != 4) return 2;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[2]))};
    if (inet_pton(AF_INET, words[1], &at.sin_addr) != 1) return 2;
    int to = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(to, (struct sockaddr *)&at, sizeof at) != 0) {
        perror("connect");
        return 1;
    }
    if (count == 4 && write(to, words[3], strlen(words[3])) < 0) return 1;
    while ((length = read(to, said, sizeof said)) > 0) fwrite(said, 1, (size_t)length, stdout);
    return length == 0 ? 0 : 1;
}
